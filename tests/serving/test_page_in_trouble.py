"""The page where something is wrong: refusals, keys, attacks; and for whoever uses no mouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from browser import Visitor
from conftest import QUESTIONS, make_wrapper
from page_visitor import PageVisitor
from playwright.sync_api import Page, Route, expect
from served import Served, served

from llama_wrapper import LlamaWrapper

QUESTION = QUESTIONS[0]
LINK = {"behavior": "calm", "layer": 2, "dose": 0.5, "temperature": 0, "max_tokens": 6}
DO = "\"document.title='hacked'\""
ATTACK = f"</script><img src=x onerror={DO}><svg onload={DO}>"
KEY = "a secret of two words"


@pytest.fixture(scope="module")
def tiny() -> LlamaWrapper:
    return make_wrapper("llama")


@pytest.fixture(scope="module")
def server(tiny: LlamaWrapper) -> Iterator[Served]:
    with served(tiny) as found:
        yield found


def foot(desk: PageVisitor, pane: int) -> Any:
    return desk.find(".last .foot").nth(pane)


def test_a_full_queue_is_said_in_its_pane_and_can_be_tried_again(
    visit: Visitor, tiny: LlamaWrapper
) -> None:
    with served(tiny, max_rows=1, max_queue=1) as small:
        desk = PageVisitor(visit, small.url, LINK | {"max_tokens": 1500}).ready()
        desk.send(QUESTION)
        failed = desk.find(".last .foot.failed")
        expect(failed).to_have_count(1)
        expect(failed).to_contain_text("Try again in 1 s.")
        desk.page.keyboard.press("Escape")
        desk.finished()
        refused = desk.asked[-1]
        with desk.page.expect_request("**/chat/completions") as again:
            failed.get_by_role("button", name="Try again").click()
        assert json.loads(str(again.value.post_data)) in desk.asked[:3]
        assert refused["messages"] == desk.asked[-1]["messages"]
        expect(failed).to_have_count(0)
        desk.page.keyboard.press("Escape")
        desk.finished()


def test_a_server_that_is_gone_is_said_and_what_was_typed_is_kept(
    visit: Visitor, tiny: LlamaWrapper
) -> None:
    with served(tiny) as going:
        desk = PageVisitor(visit, going.url, LINK).ready()
        first = desk.ask(QUESTION)
    desk.page.fill("#message", "a draft")
    desk.page.click(".last .again")
    for pane in range(3):
        expect(foot(desk, pane)).to_contain_text("The server does not answer")
    expect(desk.find("h2")).to_have_text([QUESTION])
    expect(desk.find("#message")).to_have_value("a draft")
    assert all(first)


def test_a_stream_that_breaks_off_keeps_what_came(visit: Visitor, server: Served) -> None:
    begun: dict[str, Any] = {
        "choices": [{"index": 0, "finish_reason": None, "delta": {"content": "It is"}}]
    }
    error: dict[str, Any] = {"error": {"message": "computing failed"}}
    bodies = [[begun], [begun, error], [begun, error]]

    def deliver(route: Route) -> None:
        lines = "".join(f"data: {json.dumps(piece)}\n\n" for piece in bodies.pop(0))
        route.fulfill(status=200, content_type="text/event-stream", body=lines)

    desk = PageVisitor(visit, server.url, LINK).ready()
    desk.page.route("**/chat/completions", deliver)
    assert desk.ask(QUESTION) == ["It is"] * 3
    said = sorted(text.split(" Try again")[0] for text in desk.feet())
    broken = "The connection broke off before the answer ended."
    assert said == ["Computing failed.", "Computing failed.", broken]


def test_a_conversation_that_is_too_long_is_said(visit: Visitor, server: Served) -> None:
    desk = PageVisitor(visit, server.url, LINK).ready()
    desk.ask("word " * 3000)
    for pane in range(3):
        expect(foot(desk, pane)).to_contain_text("The conversation is too long for this model.")


def test_a_value_that_cannot_be_is_shown_before_anything_is_sent(
    visit: Visitor, server: Served
) -> None:
    desk = PageVisitor(visit, server.url, LINK).ready()
    desk.page.click("#more_shown")
    desk.page.fill("#temperature", "11")
    desk.page.click("#more_shown")
    desk.send(QUESTION)
    expect(desk.find("#temperature")).to_be_focused()
    expect(desk.find("#message")).to_have_value(QUESTION)
    assert desk.asked == []
    assert desk.visit.faults == []


def test_a_key_is_asked_for_only_where_the_server_wants_one_and_is_kept_nowhere(
    visit: Visitor, server: Served, tiny: LlamaWrapper
) -> None:
    open_desk = PageVisitor(visit, server.url, LINK).ready()
    expect(open_desk.find("#key_form")).to_be_hidden()
    with served(tiny, api_key=KEY) as locked:
        desk = PageVisitor(visit, locked.url, LINK)
        expect(desk.find("#key")).to_be_focused()
        desk.page.keyboard.type("a wrong one")
        desk.page.keyboard.press("Enter")
        expect(desk.find("#status")).to_contain_text("not taken")
        desk.page.fill("#key", KEY)
        desk.page.keyboard.press("Enter")
        desk.ready()
        assert all(desk.ask(QUESTION))
        for button in ("#link", ".last .curl", ".last .python"):
            copied = desk.copied(button)
            assert KEY not in copied
            assert "CAA_API_KEY" in copied or button == "#link"
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
        assert "secret" not in desk.page.evaluate(kept)
        assert "secret" not in desk.page.content()


def attacked_info(server: Served) -> dict[str, Any]:
    info = server.send("/info", method="GET")[1]
    info["model"] = ATTACK
    info["behaviors"][0] |= {"id": ATTACK, "name": f"{ATTACK}\n'; echo hacked; '"}
    return info


def hostile(page: Page, server: Served) -> None:
    """Names and answers as no tiny model can be told to write them, in the server's protocol."""
    piece = {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": ATTACK},
             "token_scores": [{"token": ATTACK, "score": 0.5}]}]}  # fmt: skip
    ended = {"choices": [{"index": 0, "finish_reason": "stop", "delta": {}}]}
    stream = "".join(f"data: {json.dumps(each)}\n\n" for each in (piece, ended))
    page.route("**/info", lambda route: route.fulfill(json=attacked_info(server)))
    page.route(
        "**/chat/completions",
        lambda route: route.fulfill(
            content_type="text/event-stream", body=stream + "data: [DONE]\n\n"
        ),
    )


def test_hostile_names_answers_prompts_and_links_are_text(visit: Visitor, server: Served) -> None:
    """The real thing: a model told by a web page to write a script; a shared folder of vectors."""
    desk = PageVisitor(visit, server.url).ready()
    hostile(desk.page, server)
    link = {"behavior": ATTACK, "system": ATTACK, "message": ATTACK, "colours": 1, "dose": 0.5}
    with desk.page.expect_response("**/info"):
        desk.page.reload()
    desk.ready()
    desk.page.evaluate("link => { location.hash = new URLSearchParams(link); }", link)
    expect(desk.find("#message")).to_have_value(ATTACK)
    assert desk.ask(ATTACK) == [ATTACK] * 3
    assert desk.find("h2").text_content() == ATTACK
    assert str(desk.find("h3").first.text_content()).startswith(ATTACK)
    assert desk.find("#turns").locator("img, script, svg").count() == 0
    for line in desk.copied(".last .curl").splitlines():
        assert line.startswith(("# ", "curl ", "echo")), "a name has left its comment"
    assert parse_qs(urlparse(desk.copied("#link")).fragment)["system"] == [ATTACK]
    assert "hacked'" in desk.page.title(), "the title is the model's name, as text"
    assert desk.page.title() != "hacked"
    assert desk.visit.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_narrow_page_does_not_scroll_sideways(
    visit: Visitor, server: Served, scheme: Any
) -> None:
    desk = PageVisitor(visit, server.url, LINK | {"colours": 1}).ready()
    desk.page.emulate_media(color_scheme=scheme)
    desk.page.click("#more_shown")
    desk.ask(QUESTION)
    desk.page.fill("#strength", "0.6")
    assert desk.visit.barriers() == []
    desk.page.set_viewport_size({"width": 320, "height": 640})
    desk.ask("a_word_of_many_letters" * 20)
    assert desk.visit.overflow() == 0
    boxes = [pane.bounding_box() for pane in desk.find(".last .pane").all()]
    assert [box and box["x"] for box in boxes] == [boxes[0] and boxes[0]["x"]] * 3
    assert desk.visit.barriers() == []


def test_everything_can_be_done_with_keys(visit: Visitor, server: Served) -> None:
    desk = PageVisitor(visit, server.url, LINK).ready()
    keys = desk.page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(30):
            if desk.find(selector).first.evaluate("each => each === document.activeElement"):
                outline = "each => getComputedStyle(each).outlineStyle"
                assert desk.find(selector).first.evaluate(outline) != "none", "no focus to be seen"
                return
            keys.press("Tab")
        pytest.fail(f"Tab does not come to {selector}")

    tab_to("#target")
    keys.press("ArrowDown")
    tab_to("#layer")
    keys.press("Home")
    tab_to("#strength")
    keys.press("End")
    tab_to("#colours")
    keys.press("Space")
    tab_to("#message")
    keys.type("one")
    keys.press("Shift+Enter")
    keys.type("two")
    keys.press("Enter")
    expect(desk.find(".turn")).to_have_count(1)
    desk.finished()
    expect(desk.find("h2")).to_have_text("one\ntwo", use_inner_text=True)
    expect(desk.find("h3").last).to_have_text("bold +0.6 · layer 1")
    expect(desk.find("#said p")).to_have_count(3)
    assert "bold +0.6 · layer 1: " in str(desk.find("#said").text_content())
    expect(desk.find("#message")).to_be_focused()
    for selector in (
        ".last .again",
        ".last .edit",
        ".last .curl",
        ".last .text",
        "#link",
        "#clear",
    ):
        tab_to(selector)
    keys.press("Enter")
    expect(desk.find(".turn")).to_have_count(0)
    assert desk.visit.faults == []
