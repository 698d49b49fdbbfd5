"""Several processes of one node: who answers what, how they ask each other, and what they tell.

What is named here is all that other parts of the program use; the modules below are the package's own.
"""

from __future__ import annotations

from resender.workers.asking import Asks, AskServer
from resender.workers.crew import Crew, Member
from resender.workers.elsewhere import Elsewhere
from resender.workers.team import Team, open_inner

__all__ = ["AskServer", "Asks", "Crew", "Elsewhere", "Member", "Team", "open_inner"]
