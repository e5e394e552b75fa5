"""`python -m benchmarks.accuracy`; the work is in tables.py, where worker processes can import it from."""

from benchmarks.accuracy.tables import main

if __name__ == "__main__":
    main()
