"""`python -m service`: the command line."""

from service.app.cli import main

if __name__ == "__main__":
    main()
