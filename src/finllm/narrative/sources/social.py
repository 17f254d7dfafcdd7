"""Posts of social networks, as their interfaces give them: one post, a list, or a page with its users.

Known shapes: X (`data` with `includes.users`), Mastodon (statuses), Bluesky (`feed`), StockTwits
(`messages`), Reddit (`data.children`), and rows of our own.
"""

from collections.abc import Iterator
from typing import Any, Final

from finllm.narrative.sources.fields import at, json_of, number, text_field, words
from finllm.narrative.sources.rows import Unusable
from finllm.narrative.sources.sample import sample
from finllm.narrative.sources.source import Item
from finllm.narrative.sources.stamps import instant_field

_LISTS: Final = ("data", "messages", "statuses", "feed", "posts", "children", "items")
_TEXTS: Final = (
    "text",
    "content",
    "body",
    "selftext",
    "record.text",
    "full_text",
    "note_tweet.text",
)
_TIMES: Final = (
    "created_at", "createdAt", "record.createdAt", "created_utc", "ts_published", "ts_ms",
    "timestamp", "indexedAt", "date",
)  # fmt: skip
_DEEPEST: Final = 5


class Social:
    """Posts with who wrote them, how many follow, and whether they repeat another's."""

    zone: Final = ""

    def samples(self) -> tuple[bytes, ...]:
        """Return a page of each of the known shapes."""
        names = ("x", "mastodon", "bluesky", "stocktwits", "reddit")
        return tuple(sample(f"social_{name}.json") for name in names)

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield the posts of a message.

        Raises:
            Unusable: `broken_json` or `not_utf8`.
        """
        page = json_of(payload)
        users = at(page, "includes", "users")
        by_id = {
            text_field(user, "id"): user
            for user in (users if isinstance(users, list) else ())
            if isinstance(user, dict)
        }
        for post in _posts(page):
            yield _item(post, by_id)


def _posts(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects that are posts, out of lists, pages and wrappings."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        if any(at(value, *name.split(".")) is not None for name in (*_TEXTS, "title")):
            yield value
            return
        inner = value.get("post", value.get("data"))  # Bluesky's and Reddit's wrappings
        value = (
            [inner]
            if isinstance(inner, dict)
            else [value[name] for name in _LISTS if name in value]
        )
    for one in value if isinstance(value, list) else ():
        yield from _posts(one, depth + 1)


def _item(post: dict[str, Any], users: dict[str, Any]) -> Item:
    again = post.get("reblog")
    said = again if isinstance(again, dict) else post
    published, published_ns = instant_field(post, *_TIMES)
    user = users.get(text_field(post, "author_id")) or post.get("user") or post.get("account")
    user = user or post.get("author")
    return Item(
        title=text_field(said, "title"),
        text=text_field(said, *_TEXTS),
        published=published,
        published_ns=published_ns,
        key=text_field(post, "id", "uri", "name"),
        lang=text_field(post, "lang", "language")[:2].lower(),
        symbols=words(post.get("symbols") or at(post, "entities", "symbols")),
        author=text_field(user, "username", "acct", "handle", "name")
        or (user if isinstance(user, str) else ""),
        followers=number(
            user, "public_metrics.followers_count", "followers_count", "followers", "followersCount"
        )
        or number(post, "followers"),
        is_repost=isinstance(again, dict) or _repeats(post),
    )


def _repeats(post: dict[str, Any]) -> bool:
    referred = post.get("referenced_tweets")
    kinds = (text_field(one, "type") for one in (referred if isinstance(referred, list) else ()))
    return "retweeted" in kinds or bool(number(post, "retweet")) or bool(post.get("is_repost"))
