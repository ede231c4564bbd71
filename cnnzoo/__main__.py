"""``python -m cnnzoo`` is the command ``cnnzoo``."""

from cnnzoo.cli import main

if __name__ == "__main__":
    main(prog_name="cnnzoo")
