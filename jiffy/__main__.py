"""`python -m jiffy`: the same as the command `jiffy`."""

from jiffy.cli import main

if __name__ == "__main__":
    main()
