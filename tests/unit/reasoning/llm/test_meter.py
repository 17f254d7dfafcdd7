"""What a question cost, where the endpoint does not say."""

from finllm.reasoning.llm.budget import tokens_of
from finllm.reasoning.llm.meter import Meter
from finllm.reasoning.llm.wire import Usage


def test_what_no_endpoint_counts_is_reckoned_as_a_prompts_budget_is() -> None:
    meter, sent, heard = Meter(), '{"z":-1.25}' * 30, '{"shift":0.1}' * 9
    meter.sent(sent.encode())
    meter.heard(heard, None)
    assert meter.usage == Usage(prompt=tokens_of(sent), cached=0, output=tokens_of(heard))
    assert not meter.is_counted
