"""`python -m robustvit` is `robustvit`."""

from robustvit.cli.app import main

if __name__ == "__main__":
    main()
