"""The delivery of alerts to webhooks: what is posted, to whom, and until when it is tried."""

from .courier import Courier
from .post import PostFailure, post

__all__ = ["Courier", "PostFailure", "post"]
