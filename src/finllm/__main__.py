"""`python -m finllm`: the same as the command `finllm`."""

from finllm.app.cli import main

if __name__ == "__main__":
    main()
