"""`python -m training`; the work is in pipeline.py, where worker processes can import it from."""

from training.pipeline import main

if __name__ == "__main__":
    main()
