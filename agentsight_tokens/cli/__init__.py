"""The command line: `agentsight-tokens`."""

__all__ = ["main"]


def main() -> None:
    """Run the command that `sys.argv` names, and exit."""
    # Imported here, so that importing the package stays free of it.
    from .app import run

    run()
