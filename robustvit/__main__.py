"""`python -m robustvit` is `robustvit`."""

from robustvit.cli import main

if __name__ == "__main__":
    main()
