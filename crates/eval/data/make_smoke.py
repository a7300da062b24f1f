"""Writes smoke.jsonl, the bundled items of `--tasks bundled:smoke`: how simple English sentences go on.

    python3 make_smoke.py > smoke.jsonl

Needs nothing. The first two lists are written by hand, the rest is made from words and patterns. No item was chosen or left out by
what a model says to it.
"""

import json
import random

# context | right | wrong | wrong ...
ENDINGS = """
The meeting will be held at the end of the|month|of|were|happy
He was one of the|first|is|slowly|went
They live in the United|States|Tuesday|however|ran
She has been a member of the|team|since|very|ago
The government said it would|not|was|being|has
As a result of the|accident|began|quickly|they
It was the first time in more than ten|years|green|although|run
The police said the man was|arrested|arrest|arrests|the
He told the court that he did not|know|knowing|knows|known
The company has been|working|works|work|to work
The two men were taken to|hospital|happily|which|and
More than half of the people in the city|live|living|lives|to
In the middle of the|night|have|never|sing
She was born in a small|town|drank|but|seven
The team won the|game|eaten|softly|where
There is no doubt|that|of the|it|she
On the other|hand|blue|walked|these
At the same|time|slow|does|them
For the first|time|the|went|nice
He said he was looking|forward|yellow|before|bread
They have been married for twenty|years|cold|says|year
Most of the|people|is|him|become
The price of oil has|risen|rise|rising|to rise
The number of people who|have|has been|having|to have
A spokesman for the company said the|decision|decide|decided|deciding
We are going to|see|saw|seen|seeing
I would like to|thank|thanks|thanked|thanking
You can find more information on the|website|drink|quickly|between
The report was published in the|journal|eating|soon|wet
It is one of the most|important|importance|import|importantly
The children went to|school|loud|which|said
He was elected president in|2008|apple|the running|very
The war began in|1914|blue|of|quickly
They arrived at the airport early in the|morning|spoon|slept|and
The river runs through the|city|sang|angry|if
She opened the door and walked into the|room|early|spoke|because
The doctor gave him some|medicine|tall|were|ago
He put the book on the|table|quick|went|but
The sun rises in the|east|ate|slowly|him
The dog ran after the|cat|was|soft|than
It was raining, so they stayed|at home|on the if|home the at|a homes
He did not have enough|money|angry|wrote|were
The teacher asked the students to|read|reading|reads|readers
My brother is taller than|me|I am the|she of|tall
She bought a new pair of|shoes|shoe|water|shining
We had dinner at a|restaurant|hungry|ate|evenings
The plane was flying from London to|Paris|blue|under|table
The baby was asleep in her|bed|walked|they|loudly
He works for a large|company|working|soon|the
They were waiting for the|bus|waited|late|of
The minister said the new law would|help|helped|helping|helps
The old man sat down on the|bench|sitting|him|tired
She wrote a letter to her|mother|written|slow|at
The ship sank in the|sea|swam|deeply|whose
It has been a very long|day|walk to|of|days
The world's largest|city|large|grow|largely
He is the author of several|books|book|write|reads
They moved to New|York|old|went|ago
The bank said it would cut interest|rates|rated|eat|the
The team will play its next|match|matching|ball the|won
Scientists have found a new|way|finding|ways of the|findings
The study found that people who smoke are more|likely|like|liking|likes
She is a professor at the|University|studied|clever|which
He was sentenced to five years in|prison|guilty|five|steal
A fire broke out in the|building|burned|hot|quickly
The company's shares fell by two per|cent|money|fell|down
The election will take|place|places|placed|voting
They have a son and a|daughter|sons|mothers|born
The film is based on a true|story|stories|watch|stars
The song was written by|John|wrote|sing|melody of
He has played for the club since|last year|next year|soon|tomorrow
The bridge was built in the|19th century|19th bridges|build|river of
The church is located in the|centre|locate|pray|old the
She said she was very|proud|pride|proudly|prouder
The storm caused a lot of|damage|damaged|rainy|damages the
He took part in the|race|running the|raced|fast
There are many different kinds of|birds|bird|flying the|fly
It is not clear whether|the|of|clear|cleared
The man was seriously|injured|injury|injure|injuries
According to the|report|reporting of|said|according
They were able to|find|found|finding|finds
He had to|go|went|gone|going
She began to|cry|cried|cries|crying the
I do not|think|thinks|thought|thinking
He does not|want|wants|wanted|wanting
They did not|see|saw|seen|seeing
We have|been|be|am|is
She has|been|be|are|were
You should|be|been|is|are
He will|be|been|is|was
It would|be|been|is|was
The cat is|sleeping|sleep|sleeps|slept the
The boys|are|is|am|has
The girl|is|are|am|have
The books|were|was|is|has
The book|was|were|are|have
These people|are|is|was|has
This house|is|are|were|have
My parents|have|has|is|was
Her father|has|have|are|were
Both of them|were|was|is|has
Each of the players|has|have been a|are|were
There are|two|a|one|an
There is|a|two|many|three
I am|going|go|goes|went
They are|going|go|goes|went
He is|going|go|goes|went
a little girl and her|brother|brotherly|have|red the
in the north of the|country|northern|lived|very
at the age of|18|young|the born|quickly
from all over the|world|worlds of|went|worldly
in front of the|house|houses was|lived|builds
up and|down|downs|up the|the
more and|more|most|many|much
black and|white|whitely|whiten|seven
day and|night|nightly|days the|noon is
men and|women|woman|man|womanly
ladies and|gentlemen|gentle|gentleman|gently
before and|after|afters|of|none
North and|South|Souths|of the|down the
left and|right|rights|lefts|rightly
"""

SENTENCES = """
The farmer got up early in the morning and|went out to feed the cows.|out went feed to cows the.|cows the early and farmer.|feed and and went of up.
When the lights went out,|the children could not see anything.|anything not children see could the.|see not the lights the was.|children of went the see out.
She was tired after the long journey, so|she went to bed early.|early bed she to went.|bed early to she went went.|to to bed the of early.
He lost his keys and|had to ask his neighbour for help.|for neighbour had ask help to his.|ask keys his had to to of.|help had ask for the his his.
The bus was late again, and|many people had to walk to work.|people work had many walk to to.|walk to had to the many people work of.|had had people many to walk.
The police are looking for a man who|was seen near the bank on Monday.|near Monday seen bank was on the.|bank the Monday near seen on.|on seen was the the near Monday of.
The new school will open in September and|will have room for five hundred children.|hundred room children will five have for.|for have five room hundred the will.|have room five children of hundred for will.
Because of the heavy snow,|all trains to the north were cancelled.|north the were trains to cancelled all.|trains all the cancelled to were north of.|to to cancelled north trains the.
The museum is open every day and|there is no charge for children.|no there for children charge is.|charge is children there for no the.|is for there is charge no.
The two countries have agreed|to end the war.|end war to the.|the end to war of the.|war of to end.
The club said that the player|would be out for six weeks.|six be for weeks out would.|out weeks would six the for be.|weeks for for would be of.
In the summer many people|travel to the coast.|coast travel the to.|the to travel coast of the.|to the of coast travel.
The old bridge was closed because|it was no longer safe.|safe longer was it no.|no safe it longer was of.|longer no was was it.
The mayor said that the city|needed more houses for young families.|more for families needed young houses.|young needed for the houses more families.|families houses for needed more more of.
After the match, the coach said|he was happy with the result.|with result he happy was the.|the the happy result with was he.|result with was of he happy.
A woman was taken to hospital after|her car hit a tree.|tree hit her a car.|a hit the tree her car of.|car a her tree hit the.
The river rose quickly, and|the village was under water by the evening.|evening by the water was under the village the.|under was by water evening village the.|village the by the of under water was evening.
The film tells the story of a boy who|wants to become a doctor.|become a wants doctor to.|doctor a to to wants become of.|to become wants doctor the.
Prices have gone up this year, but|wages have stayed the same.|same the have stayed wages.|stayed wages same have the of.|have have same wages the.
The band will play in the park on Saturday if|the weather is good.|good the is weather.|is good weather the the.|weather of good is the.
He was the youngest of four brothers and|grew up on a farm.|up farm on a grew.|a up the on farm grew.|farm on of a up grew.
The ship left the harbour in the morning and|reached the island two days later.|later island two reached days the.|two the days reached the island later of.|days later two island the reached.
The president will meet the leaders of both countries|later this week.|week this later.|this later of week.|week later the this.
The factory has closed, and|three hundred people have lost their jobs.|jobs hundred have lost three people their.|lost their people three of jobs hundred.|have three jobs people lost their the.
The island is small, but|it has its own school.|own it school its has.|its own has the it school.|school its it has of.
The judge said that there was|no evidence against him.|evidence him no against.|against of no evidence him.|him no against evidence.
You can reach the village by boat or|by a narrow road through the hills.|narrow a road hills the through by.|through by the the road narrow hills a.|road hills by narrow a through of.
The research shows that children who sleep well|do better at school.|better at do school.|school at better the do.|do school better at of.
They bought the house ten years ago and|have lived there ever since.|since there lived have ever.|ever lived there of have since.|lived have since ever there.
The company was founded in 1920 and|now has offices in ten countries.|offices ten now in countries has.|in now of ten has offices countries.|countries has in offices ten now the.
"""

SINGULAR = ["man", "woman", "king", "teacher", "doctor", "captain", "farmer", "boy", "girl", "driver", "judge", "player"]
PLURAL = ["men", "women", "kings", "teachers", "doctors", "players", "farmers", "boys", "girls", "soldiers", "workers", "students"]
DEEDS = [
    ("found", "letter"), ("opened", "door"), ("saw", "ship"), ("took", "money"), ("lost", "key"), ("read", "book"),
    ("bought", "house"), ("heard", "story"), ("left", "town"), ("built", "bridge"), ("wrote", "report"), ("won", "game"),
]
TIMES = ["in the morning", "on Sunday", "last week", "in 1995", "after the war", "for the first time", "a few days later", "in the end"]
THINGS = [
    ("book", "books"), ("car", "cars"), ("house", "houses"), ("game", "games"), ("year", "years"), ("school", "schools"),
    ("river", "rivers"), ("song", "songs"), ("church", "churches"), ("hour", "hours"), ("friend", "friends"), ("letter", "letters"),
]
VERBS = [
    ("write", "wrote", "written", "writing"), ("take", "took", "taken", "taking"), ("give", "gave", "given", "giving"),
    ("see", "saw", "seen", "seeing"), ("speak", "spoke", "spoken", "speaking"), ("begin", "began", "begun", "beginning"),
    ("know", "knew", "known", "knowing"), ("drive", "drove", "driven", "driving"), ("break", "broke", "broken", "breaking"),
    ("choose", "chose", "chosen", "choosing"), ("eat", "ate", "eaten", "eating"), ("fly", "flew", "flown", "flying"),
    ("show", "showed", "shown", "showing"), ("do", "did", "done", "doing"), ("go", "went", "gone", "going"),
]
PLACES = [
    ("in the house", "of at the house"), ("on the table", "during the table"), ("at the end of the road", "since the end of the road"),
    ("under the bridge", "among the bridge"), ("in the garden", "until the garden"), ("from London", "onto London"),
    ("in the war", "above the war"), ("at five o'clock", "into five o'clock"), ("on Monday", "under Monday"), ("in 1990", "along 1990"),
    ("on the radio", "beneath the radio"), ("at school", "across of school"), ("against the wall", "while the wall"),
    ("with his friends", "because his friends"), ("for two years", "over at two years"), ("by the police", "into by police"),
    ("to the hospital", "to of hospital"), ("from the city", "from city the"), ("in the last century", "in the century last"),
    ("at the same time", "at time the same"), ("because of the rain", "because the of rain"), ("as a doctor", "as doctor a"),
    ("after the meeting", "the after meeting"), ("next to the river", "to next the river"), ("on the first day", "on first the day"),
]
ADJECTIVES = [
    ("old", "house"), ("long", "river"), ("difficult", "question"), ("good", "friend"), ("new", "car"), ("serious", "problem"),
    ("small", "country"), ("short", "story"), ("great", "victory"), ("simple", "answer"), ("large", "building"), ("young", "man"),
    ("black", "dog"), ("big", "city"), ("hard", "winter"), ("important", "part"), ("public", "school"), ("national", "park"),
    ("strong", "wind"), ("quiet", "street"),
]
STATES = [
    ("taken to the police station", "the police station to taken"), ("sent to another hospital", "another to hospital sent"),
    ("asked to leave the country", "to asked the leave country"), ("found near the river", "near found river the"),
    ("killed in the attack", "in the killed attack"), ("seen in the city", "in seen city the"),
    ("born in the north", "north the in born"), ("beaten in the final", "final in beaten the"),
]

random.seed(20)
items, seen = [], set()


def add(context, right, *wrong):
    choices = [right, *wrong]
    random.shuffle(choices)
    assert len(set(choices)) == len(choices), choices
    if (context, right) not in seen:
        seen.add((context, right))
        items.append({"context": context, "choices": choices, "answer": choices.index(right)})


def shuffled(words, count):
    """`count` different orders of `words`, none of them the right one."""
    orders = {" ".join(words)}
    while len(orders) <= count:
        orders.add(" ".join(random.sample(words, len(words))))
    return sorted(orders - {" ".join(words)})


for line in (ENDINGS + SENTENCES).split("\n"):
    if line:
        add(*line.split("|"))
for who in SINGULAR:
    for deed, thing in random.sample(DEEDS, 6):
        when = random.choice(TIMES)
        rest = [deed, "the", thing, *when.split()]
        add(f"The {who}", " ".join(rest) + ".", *(order + "." for order in shuffled(rest, 3)))
for one, many in zip(SINGULAR, PLURAL):
    for state, mixed in random.sample(STATES, 4):
        add(f"The {one}", f"was {state}.", f"were {state}.")
        add(f"The {many}", f"were {state}.", f"was {state}.")
        add(f"The {one} was", f"{state}.", f"{mixed}.")
for one, many in THINGS:
    add("He has two", many, one)
    add("They have many", many, one)
    add("This is a" if one[0] not in "aeiou" and one != "hour" else "This is an", one, many)
    add("Each", one, many)
    add("There were no other", many, one)
for base, past, participle, present in VERBS:
    add("They wanted to", base, past, present)
    add("They have been", present, base, past)
    add("Last year he", past, participle, present)
    add("It has been", participle, past, base)
    add("She will", base, past, present)
    add("We did not", base, past, participle)
for right, wrong in PLACES:
    for start in ("He was", "It was", "They were", "The man died"):
        add(start, right, wrong)
for adjective, noun in ADJECTIVES:
    article = "an" if adjective[0] in "aeiou" else "a"
    add("It was", f"{article} {adjective} {noun}.", f"{article} {noun} {adjective}.", f"{adjective} {article} {noun}.", f"{noun} {article} {adjective}.")
    add(f"He saw the {adjective}", f"{noun} and", f"the {noun}", f"of {noun}")
for who in SINGULAR:
    add(f"The {who} said that", "he was not there." if who not in ("woman", "girl") else "she was not there.", "was not there he.", "not there was it he.")
    add(f"In the evening the {who}", "went back to the house.", "back went house the to.", "house back to the went.", "the went to back house.")

for item in items:
    print(json.dumps(item, ensure_ascii=False))
