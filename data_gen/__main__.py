"""`python -m data_gen CONFIG [key=value ...]`: makes the dataset of a config; the last line on stdout is its folder."""

import json

from dualenc.errors import InputError, run_cli

USAGE = """python -m data_gen CONFIG [key=value ...] [--describe]

Makes the dataset that a YAML file describes, or continues an unfinished one. The last line on stdout is its folder.
With --describe nothing is made: one line of JSON says which folder it would be, its hash and its full config.
Exit code 0: done; 2: bad input; 130: interrupted, the same command continues. Keys:
"""


def main(arguments: list[str]) -> int:
    """Runs the command with these arguments and returns its exit code."""
    from data_gen.config import Config, load_config
    from dualenc.configs import help_text

    if any(argument in ("-h", "--help") for argument in arguments):
        print(f"{USAGE}\n{help_text(Config)}")
        return 0
    describe = "--describe" in arguments
    arguments = [argument for argument in arguments if argument != "--describe"]
    if not arguments or "=" in arguments[0]:
        raise InputError("no config file given; say: python -m data_gen CONFIG [key=value ...]")
    data = load_config(arguments[0], arguments[1:])

    from data_gen.make import make_dataset, preview

    print(json.dumps(preview(data)) if describe else make_dataset(data))
    return 0


if __name__ == "__main__":
    run_cli(main)
