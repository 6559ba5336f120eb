"""Judgement: what people are told at once, what is a number in a digest, and what they are not told."""

from manager.domain.notifications.judgement.classification import ALWAYS_TAKEN
from manager.domain.notifications.judgement.judgement import Judgement
from manager.domain.notifications.judgement.quiet_hours import QuietHours
from manager.domain.notifications.judgement.settings import JudgementSettings

__all__ = ["ALWAYS_TAKEN", "Judgement", "JudgementSettings", "QuietHours"]
