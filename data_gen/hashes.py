"""`python -m data_gen.hashes`: which datasets would be made, for many configs in one process.

Reads from stdin a JSON list of argument lists of `python -m data_gen`, each a config file and `key=value`s. Prints a
JSON list: for each {"hash": ...}, or {"error": ...} in one line where it is refused. Nothing is drawn or written.
"""

import json
import sys

from data_gen.config import config_hash, load_config
from data_gen.recipe import object_split
from dualenc.errors import InputError, one_line, run_cli


def main(arguments: list[str]) -> None:
    """Answers the list on stdin."""
    print(json.dumps([_answer(*request) for request in json.load(sys.stdin)]))


def _answer(config: str, *overrides: str) -> dict[str, str]:
    try:
        data = load_config(config, overrides)
        object_split(data)  # refused here rather than by the maker, hours later
        return {"hash": config_hash(data)}
    except InputError as error:
        return {"error": one_line(error)}


if __name__ == "__main__":
    run_cli(main)
