# SPDX-License-Identifier: BSD-3-Clause
"""What people are told while their jobs go on, from the views that a master gives one after the other."""

from __future__ import annotations

import pytest

from piwheels_node.cli.results import Result, ask_and_follow, explain, waiting_words
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import BuildRequest, JobView, RequestAnswer


class Master:
    """Answers with the next of these views whenever it is asked about the job."""

    def __init__(self, *views):
        self.views = list(views)

    def request(self, wanted):
        job = self.views[0]
        return RequestAnswer(project=job.project, version=job.version, target=job.target, job=job)

    def job(self, job_id):
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]


class Told:
    """Notes what it is to show."""

    def __init__(self):
        self.words = []

    def waits(self, job):
        self.words.append(waiting_words(job))

    def __getattr__(self, name):
        return lambda *_: None


def view(state, **more):
    return JobView.model_validate(
        {
            "job_id": 1,
            "project": "needy",
            "version": "1.0",
            "target": "cp311-linux_x86_64-debian12",
            "state": state,
            "priority": 0,
            "attempts": 1,
            "created_at": "2026-11-22T12:00:00Z",
            **more,
        }
    )


@pytest.mark.parametrize("steps", [True, False])
def test_a_job_that_came_back_with_a_package_is_told_though_a_builder_had_it_again_at_once(steps):
    again = {"rounds": 1, "packages": ["libcups2-dev"]}
    master = Master(
        view(JobState.READY),
        view(JobState.LEASED),
        view(JobState.LEASED, **again),
        view(JobState.LEASED, **again),
        view(JobState.CANCELLED, **again),
    )
    told = Told()

    ask_and_follow(master, [BuildRequest(project="needy")], told, steps=steps)

    assert told.words == ["again, with libcups2-dev"]


def test_what_was_added_to_a_build_is_told_under_the_table():
    result = Result("pycups", "2.0.4", Outcome.BUILT, packages=("libcups2-dev",))

    assert explain(result) == "built with libcups2-dev, added for its build alone"
    assert explain(Result("spidev", "3.8", Outcome.BUILT)) is None
