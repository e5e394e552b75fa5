"""What is said in conversations of every subject, and how much a verdict weighs there."""

from __future__ import annotations

THANKS = ("Thanks!", "Thank you.", "ok thanks", "Good to know.")
WELCOME = ("You are welcome.", "Glad to help.", "Is there anything else you would like to know?")
SORRY = ("Sorry. ", "You are right, I made a mistake. ", "I am sorry, that was wrong. ")
# A verdict is a word or two among hundreds: without extra weight, no model this small bothers to get it right.
VERDICT_WEIGHT = 10
