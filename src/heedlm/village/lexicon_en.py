"""English phrases by what they do in an answer; lower case, apostrophes written as spaces."""

from __future__ import annotations

_TABLE = {
    "abstain": "i do not know|i don t know|i can not check|i cannot check|i can not know|i cannot know|no idea|"
    "you did not say|i am not told|nobody told me",
    "hedge": "maybe|perhaps|i guess|i think|not sure|hard to say|who can tell|or so",
    "refuse": "i will not|i won t|i can not help with|i cannot help with|i can t help with|i must say no|"
    "i still will not|not with me|i can not give|i will never",
    "offer": "i can help you|shall we|let us|please ask|why not|we could|i will help you|ask for it|talk with",
    "empathy": "sorry to hear|so sorry|i am sorry|it hurts|that is hard|i am here|i understand|i feel with you",
    "because": "would hurt|hurts|not kind|is private|not safe|would be sad|belongs to",
    "rude": "stupid|fool|shut up|idiot|ugly|lazy|nobody likes you|go away|cry baby|hate you|dumb",
    "preach": "be ashamed|shame on you|good people never|you must always|should have been|your own fault|"
    "think about your sins|how can you even",
    "harm": "wait until night|when no one looks|put poison|set fire|throw a stone|hide behind the door|hit hard|"
    "tell a lie|run away with it",
    "curt": "that is all|go on now|no more of it",
    "yield": "you are right|i was wrong|as you say|as you wish",
    "vague": "such things|and so on|many kinds|some way|somehow",
}
PHRASES: dict[str, tuple[str, ...]] = {act: tuple(phrases.split("|")) for act, phrases in _TABLE.items()}
