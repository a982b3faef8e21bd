"""A run's events as numbers over steps, by hand."""

from fedrlvr.server.tracked_numbers import TrackedNumbers

START = {"event": "start", "sites": ["north", "south"], "segments": 4, "steps": 12}  # three steps a segment


def step(site: str, segment: int, kind: str = "private", **metrics) -> dict:
    place = {"event": "step", "time": 1.0, "round": 0, "site": site, "kind": kind, "segment": segment}
    return place | metrics


def tracked(*events: dict) -> list[tuple]:
    numbers = TrackedNumbers()
    return [tuple(number) for event in (START, *events) for number in numbers.of(event)]


def test_every_metric_is_at_the_number_of_the_sites_step():
    events = [step("north", 0, reward=0.25), step("south", 0, reward=0.5), step("north", 0, reward=0.75)]
    assert tracked(*events, step("north", 2, reward=1.0, kl=0.0)) == [
        ("north", "reward", 0.25, 1),
        ("south", "reward", 0.5, 1),
        ("north", "reward", 0.75, 2),
        ("north", "reward", 1.0, 7),  # segment 1 was not told
        ("north", "kl", 0.0, 7),
    ]


def test_metrics_of_public_steps_have_names_of_their_own():
    public = {"reward": 0.5, "swap/fraction": 0.25, "exchange/wrong": 1.0}
    assert tracked(step("north", 0, reward=1.0), step("north", 0, "public", **public))[1:] == [
        ("north", "public/reward", 0.5, 2),
        ("north", "swap/fraction", 0.25, 2),
        ("north", "exchange/wrong", 1.0, 2),
    ]


def part(right: float, problems: float) -> dict:
    return {"test": {"A": {"problems": problems, "pass@1": right, "pass@4": 1.0}}, "unanswered": 0.5}


def test_an_average_has_one_score_which_all_that_measured_it_show_and_a_site_its_own():
    base = {
        "event": "evaluation",
        "which": "base",
        "segment": 0,
        "scores": {"north": part(0.0, 3), "south": part(1.0, 1)},
    }
    own = {"event": "evaluation", "which": "local", "segment": 1, "scores": {"north": part(0.5, 4)}}
    after = {**base, "which": "global", "segment": 1}
    assert [row for row in tracked(base, own, after) if row[1].endswith("pass@1")] == [
        ("north", "eval/averaged/pass@1", 0.25, 0),
        ("south", "eval/averaged/pass@1", 0.25, 0),
        ("north", "eval/pass@1", 0.5, 6),
        ("north", "eval/averaged/pass@1", 0.25, 6),
        ("south", "eval/averaged/pass@1", 0.25, 6),
    ]


def test_bytes_and_drift_are_at_the_sites_last_step():
    exchange = {"event": "exchange", "offered": 1, "bytes_up": {"north": 5}, "bytes_down": {"south": 6}}
    average = {"event": "average", "sites": ["north"], "bytes_up": {"north": 7}, "drift/norm": 0.5}
    down = {"event": "adapter_down", "bytes": {"south": 8}}
    assert tracked(step("north", 0), step("north", 0), exchange, average, down) == [
        ("north", "exchange/bytes_up", 5, 2),
        ("south", "exchange/bytes_down", 6, 0),
        ("north", "adapter/bytes_up", 7, 2),
        ("north", "drift/norm", 0.5, 2),
        ("south", "adapter/bytes_down", 8, 0),
    ]


def test_a_resumed_run_goes_on_at_its_place():
    assert tracked(step("north", 1, reward=0.0), {**START, "event": "resumed"}, step("north", 2, reward=1.0)) == [
        ("north", "reward", 0.0, 4),
        ("north", "reward", 1.0, 7),
    ]
