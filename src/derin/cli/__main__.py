"""`python -m derin.cli`, where the `derin` script is not on the path."""

from derin.cli import main

if __name__ == "__main__":
    main()
