"""`python -m braidcast`: the `braidcast` command."""

from braidcast._cli import main

if __name__ == "__main__":
    main()
