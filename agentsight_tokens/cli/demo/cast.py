"""Who plays the demo: a client for each conversation, made when it is first needed."""

from __future__ import annotations

from agentsight_tokens import ConversationTracker
from agentsight_tokens.cli.screen import waiting_sign

from .clients import Client, Framework, ManualClient, Provider, frameworks
from .script import Conversation

__all__ = ["Cast"]


class Cast:
    """The clients of the frameworks that are installed, or one that works by hand."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._clients: dict[str, Client] = {}
        self.installed: list[Framework] = [each for each in frameworks() if each.version]
        """The frameworks that take part."""
        self.missing: list[Framework] = [each for each in frameworks() if not each.version]
        """Those that could."""

    def client_of(
        self, conversation: Conversation, tracker: ConversationTracker
    ) -> tuple[str, Client]:
        """Return the client of a conversation's framework or of another one, and its title."""
        framework = min(
            self.installed, key=lambda each: each.handler != conversation.framework, default=None
        )
        title = framework.title if framework else "by hand"
        if title not in self._clients:
            # Frameworks take seconds to load.
            with waiting_sign(f"Loading {title} ..."):
                self._clients[title] = (
                    framework.client(self._provider)
                    if framework
                    else ManualClient(self._provider, tracker)
                )
        return title, self._clients[title]

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()
