"""`python -m agentsight_tokens`: the command line."""

from agentsight_tokens.cli import main

if __name__ == "__main__":
    main()
