"""Make up the example votes that ship with the package: `python scripts/example_votes.py`. A test holds them current.

Nobody cast these votes and no model wrote these answers. Each of six made-up assistants has a habit (brief, thorough, padded,
vague, often wrong, evasive), and a vote is drawn from Davidson's model of paired comparison with ties: what is right counts most,
then a reason, a list where steps help, and not too many words. Written for this project, under its licence.
"""

import csv
import random
from dataclasses import dataclass, field
from itertools import combinations
from math import exp
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "src" / "tiebreak" / "votes" / "examples"
FRESH_PROMPTS = 40
FRESH_VOTES, VOTES = 3, 3
"""Votes on each prompt, of fresh ones and of those to learn from."""
COLUMNS = ("id", "prompt", "response_a", "response_b", "model_a", "model_b", "winner")


@dataclass(frozen=True)
class Task:
    """A prompt, what is right, what is wrong, why, and steps if the task has some."""

    prompt: str
    right: str
    wrong: str
    why: str
    steps: list[str] = field(default_factory=list)


FACTS = """
What is the capital of Australia?|Canberra|Sydney|It was built as a compromise between Sydney and Melbourne.
Which city is Canada's capital?|Ottawa|Toronto|Queen Victoria chose it in 1857, away from the border.
I always forget: capital of Turkey?|Ankara|Istanbul|It has been the capital since 1923.
Name the capital of Brazil.|Brasilia|Rio de Janeiro|The government moved there in 1960.
What's New Zealand's capital city?|Wellington|Auckland|Parliament has sat there since 1865.
Which planet has the most mass?|Jupiter|Saturn|It has more than twice the mass of all other planets together.
How many bones does an adult human have?|206|306|Babies have more, and some of them grow together.
At what temperature does water boil at sea level, in Fahrenheit?|212 degrees|180 degrees|It is 100 degrees Celsius.
Who wrote Frankenstein?|Mary Shelley|Bram Stoker|She began it in 1816, on Lake Geneva.
What gas do plants take in to grow?|Carbon dioxide|Oxygen|They give oxygen back while they use light.
Which metal is liquid at room temperature?|Mercury|Lead|It melts at 39 degrees below zero Celsius.
What does HTTP stand for?|Hypertext Transfer Protocol|High Text Transport Program|It is how browsers and servers talk.
In which year did the Berlin Wall fall?|1989|1991|The border opened on the evening of 9 November.
How long does light take from the sun to the earth?|About eight minutes|About eight seconds|It covers 150 million km.
What is the smallest prime number?|2|1|One has a single divisor, so it is not prime.
"""
SUMS = """
What is 15 % of 80?|12|15|A tenth is 8, and half of that is 4 more.
If a shirt of 40 euros is 25 % off, what do I pay?|30 euros|35 euros|A quarter of 40 is 10, and 40 - 10 = 30.
A train leaves at 9:40 and takes 2 h 35 min. When does it arrive?|12:15|11:75|9:40 plus two hours is 11:40, and 35 minutes more is 12:15.
Split a bill of 96 between four people with a 10 % tip.|26.40 each|24 each|96 and a tip of 9.60 make 105.60, and a quarter of it is 26.40.
How many minutes are in three and a half hours?|210|180|3.5 times 60 is 210.
Convert 10 kilometres to miles, roughly.|6.2 miles|16 miles|A kilometre is 0.62 miles.
How many grams are 2 pounds?|About 907 g|About 454 g|A pound is 453.6 g.
If I save 120 a month, how much is it after a year and a half?|2,160|1,800|18 months times 120 is 2,160.
What's the average of 4, 8 and 15?|9|8|The sum is 27, and a third of it is 9.
A recipe for 4 needs 300 g of rice. How much for 6?|450 g|400 g|It is 75 g a person, times 6.
What is 7 squared minus 6 squared?|13|1|49 - 36 = 13.
I drive 180 km in 2 hours. What is my average speed?|90 km/h|80 km/h|180 divided by 2 is 90.
How many days are there from 1 March to 1 May?|61|60|March has 31 days and April has 30.
"""
YES_NO = """
Can I freeze cooked rice?|Yes|No|Let it cool quickly, freeze it the same day and eat it within a month.
Is it safe to eat raw kidney beans?|No|Yes|They hold a toxin that ten minutes of boiling destroys.
Should I tip in Japan?|No|Yes|It is not expected, and may embarrass the waiter.
Does honey go bad?|No, hardly ever|Yes, in weeks|It has too little water for microbes; if it crystallises, warm it gently.
Can dogs eat grapes?|No|Yes|Even a few can harm their kidneys.
Is a tomato a fruit?|Yes, botanically|No|It grows from a flower and holds seeds; cooks treat it as a vegetable.
Do I need a visa to change planes in the same airport?|Usually not, but some countries ask for one|Always|It depends on your passport and on whether you pass the border.
Can I use a phone charger with more watts than my phone needs?|Yes|No|The phone takes only the power that it asks for.
Is glass recyclable for ever?|Yes|No|It can be melted again and again without losing quality.
Does cold weather give you a cold?|No, viruses do|Yes|People are indoors together more, so the viruses spread.
"""
CODE = """
How do I reverse a list in Python?|`items[::-1]`|`items.backwards()`|The slice makes a reversed copy; `items.reverse()` turns the list itself.
Python: count how often each word is in a text|`Counter(text.split())`|`text.count()`|Counter is in the module collections.
How can I read a JSON file in Python?|`json.load(open(path))`|`json.read(path)`|Better in a with block, which closes the file.
Remove duplicates from a list but keep the order, in Python|`list(dict.fromkeys(items))`|`list(set(items))`|A set forgets the order, a dict keeps it.
What is the git command to undo my last commit but keep the changes?|`git reset --soft HEAD~1`|`git delete last`|The changes stay staged.
In SQL, how do I get the ten newest orders?|`SELECT * FROM orders ORDER BY created DESC LIMIT 10`|`SELECT TOP FROM orders`|DESC puts the newest first.
How do I find which process uses port 8000 on Linux?|`ss -ltnp 'sport = :8000'`|`port 8000 --show`|It lists the sockets that listen, with their process.
How do I check in Python whether a string is a number?|`text.isdecimal()`|`text.is_number`|For decimals and signs, try float(text) and catch ValueError.
Bash: run a command every five minutes|`*/5 * * * * command` in crontab|`repeat 5 command`|Edit the table with `crontab -e`.
CSS: how do I centre a box on the page?|`display: grid; place-items: center`|`text-align: middle`|Give the parent a height too.
What does `except Exception: pass` do, and is it good?|It hides every error|It makes code faster|You will not learn that something failed, so name the error that you expect.
"""
STEPS = """
How do I boil an egg so that the yolk stays soft?|Six minutes in boiling water|Twenty minutes in cold water|The white sets before the yolk does.|Bring water to the boil;Lower the egg in with a spoon;Wait six minutes;Cool it in cold water
How do I get a red wine stain out of a tablecloth?|Blot it, then salt and cold water|Rub it with hot water|Heat and rubbing drive the colour in.|Blot with a cloth;Cover with salt;Rinse with cold water;Wash as usual
What is the quickest way to ripen an avocado?|A paper bag with a banana|The freezer|The banana gives off ethylene, which ripens fruit.|Put both into a paper bag;Fold it shut;Look after a day
How should I descale a kettle?|Vinegar and water, half and half|Bleach|The acid dissolves the lime.|Fill it half with each;Boil and leave for an hour;Pour out and rinse twice
How can I fall asleep faster?|The same hours each day, and no screen before|A long nap in the evening|Your body learns the rhythm.|Go to bed at the same time;Keep the room cool and dark;Leave the phone elsewhere
My laptop is slow. What should I try first?|Restart it and see what uses the memory|Buy a new one|Most often one program or a full disk is the cause.|Restart;Close what you do not need;Free some disk;Look for updates
How do I prepare for a job interview in one day?|Know the job, three stories and two questions|Learn the company's history by heart|Most questions ask for an example of what you did.|Read the advert again;Write down three stories of your work;Prepare two questions;Plan the way there
How do I keep basil alive on the windowsill?|Light, water from below, cut the tips|Water it on top three times a day|Wet leaves and roots rot.|Put it where it is bright;Pour water into the saucer;Cut above a pair of leaves
Plan a weekend in Lisbon for me|Alfama, Belem and a day at the coast|Fly to Porto instead|The three are near and quite different.|Friday evening: Alfama and its views;Saturday: Belem, the tower and the tarts;Sunday: train to Cascais
What should I pack for a three day hike?|Layers, water and a way to find your way|A suitcase|Weight and weather decide how a hike goes.|Rain jacket and a warm layer;Two litres of water a day;Map and headlamp;Plasters
How do I make a simple budget?|Income less fixed costs, then a limit for the rest|Guess at the end of the month|You see what is free before you spend it.|Add up your income;Subtract rent and bills;Set aside savings;Divide the rest by weeks
How do I ask my boss for a raise?|With results, a number and a date|By email on Friday night|It is easier to agree to something concrete.|List what you achieved;Look up what others earn;Ask for a meeting;Name a number
How can I learn to touch type?|Ten minutes a day without looking|An hour once a month|Your fingers learn by repetition.|Rest your fingers on the home row;Use a typing tutor;Care for accuracy first
What's a good way to start running?|Run and walk in turns, three times a week|Run 10 km on the first day|Tendons take longer than lungs.|Walk five minutes;Run one, walk two, eight times;Add a minute a week
How do I clean a cast iron pan?|Hot water and a brush, then oil|The dishwasher|Soap and soaking take the seasoning off.|Rinse while it is warm;Scrub with a brush;Dry on the stove;Rub in a drop of oil
How do I change a flat bicycle tyre?|Take the wheel off, change the tube|Pump harder|The tube holds the air, not the tyre.|Take off the wheel;Lever one side of the tyre out;Find what pierced it;Put a new tube in and pump
"""
TEXTS = """
Write a short message to my landlord: the heating is broken.|Hello, the heating in my flat has not worked since this morning. Could you send somebody today or tomorrow? Thank you!|Dear Sir, heating.|It says what, since when and what you want.
Can you write a polite email to decline an invitation?|Thank you so much for the invitation. I am sorry that I cannot come that day, and I hope to see you soon.|No, I am not coming.|It thanks, declines and stays warm.
Fix the grammar: "Me and him goes to school."|"He and I go to school."|"Him and me goes to school."|Both are the subject, and it is plural.
Rewrite in a friendlier way: "Send me the report now."|"Could you send me the report today, please?"|"Send it, or else."|It asks, and still says when.
Give me one sentence that explains inflation to a child.|When all things cost a bit more each year, the same coin buys fewer sweets.|It is the rate of change of the consumer price index.|Children know coins and sweets.
Suggest a title for a blog post about growing tomatoes on a balcony.|"Three pots, one balcony: tomatoes until October"|"Post"|It says where, how many and how long.
Explain what an API is to my grandmother.|It is like a waiter: you order, the kitchen cooks, and you need not know how.|It is an application programming interface.|It uses what she knows.
Write a haiku about rain.|Rain taps on the roof / the cat counts each falling drop / and loses again|Rain rain rain rain rain|It has five, seven and five syllables.
Summarise in one sentence why sleep matters.|Sleep is when the brain sorts what it learned and the body repairs itself.|Sleep is nice.|It names what happens.
What's another word for "important" in a formal letter?|"Essential", or "significant"|"Big"|Both are usual in formal letters.
Is it "fewer people" or "less people"?|"Fewer people"|"Less people"|People can be counted.
Write a thank-you note to a colleague who covered my shift.|Thank you for taking my shift on Tuesday; it saved my day. The next one is on me!|Thanks.|It says for what, and offers something.
How do I say "Where is the station?" in French?|"Ou est la gare ?"|"Donde esta la gare?"|Gare is a railway station.
Give me a subject line for an email about a late delivery.|"Your order 4711: two days late, and what we do about it"|"Hi"|The reader knows at once what it is about.
"""


CAPITALS = """
Kenya|Nairobi|Mombasa|It grew from a railway depot of 1899.
Morocco|Rabat|Casablanca|Casablanca is larger, but the king and parliament are in Rabat.
Vietnam|Hanoi|Ho Chi Minh City|The largest city is Ho Chi Minh City, in the south.
Switzerland|Bern, in practice|Zurich|The law names none, but the government sits there.
Kazakhstan|Astana|Almaty|It took over from Almaty in 1997.
Nigeria|Abuja|Lagos|It was built in the middle of the country and took over in 1991.
Pakistan|Islamabad|Karachi|It was planned in the 1960s.
Myanmar|Naypyidaw|Yangon|The government moved there in 2005.
Ecuador|Quito|Guayaquil|It lies at 2,850 m.
Tanzania|Dodoma|Dar es Salaam|Many offices are still in Dar es Salaam.
Iceland|Reykjavik|Akureyri|No capital lies further north.
Slovenia|Ljubljana|Maribor|It is also the largest city.
India|New Delhi|Mumbai|It replaced Calcutta in 1911.
Scotland|Edinburgh|Glasgow|Glasgow is larger.
Bolivia|Sucre by law, La Paz in practice|Santa Cruz|The courts are in Sucre, the government is in La Paz.
China|Beijing|Shanghai|Its name means northern capital.
the United States|Washington, D.C.|New York|It belongs to no state.
Wales|Cardiff|Swansea|It has been the capital since 1955 only.
Israel|Jerusalem, as its law says|Tel Aviv|Most embassies are in Tel Aviv.
Sri Lanka|Sri Jayawardenepura Kotte|Colombo|Kotte is a suburb of Colombo.
Cameroon|Yaounde|Douala|Douala is the larger port.
Albania|Tirana|Durres|It became the capital in 1920.
Mongolia|Ulaanbaatar|Darkhan|Nearly half of all people live there.
Bhutan|Thimphu|Paro|It has no traffic lights.
Georgia|Tbilisi|Batumi|It is named after its warm springs.
Malawi|Lilongwe|Blantyre|It took over from Zomba in 1975.
Belize|Belmopan|Belize City|It was built inland after a hurricane in 1961.
"""
ACRONYMS = """
PDF|Portable Document Format|Printed Data File|It looks the same on every screen and printer.
URL|Uniform Resource Locator|Universal Read Link|It is the address of a page.
RAM|Random Access Memory|Rapid Application Module|It forgets all when the power goes.
GPS|Global Positioning System|General Place Service|It measures the distance to several satellites.
VAT|Value Added Tax|Verified Account Total|Each seller pays it on what they add.
GDP|Gross Domestic Product|General Debt Percentage|It is what a country makes in a year.
RSVP|Repondez s'il vous plait|Reply soon, very please|You are asked to say whether you come.
LED|Light-Emitting Diode|Low Energy Device|It needs a tenth of a bulb's power.
ISBN|International Standard Book Number|Internal Serial of Book Names|Each edition has its own.
DNA|Deoxyribonucleic acid|Dual Nuclear Atom|It holds the instructions for a cell.
SQL|Structured Query Language|Simple Question Logic|It is how you ask a database.
CPU|Central Processing Unit|Computer Power Unit|It carries out a program's instructions.
ETA|Estimated Time of Arrival|Exact Travel Agenda|It is when somebody should be there.
VPN|Virtual Private Network|Verified Public Node|It carries your traffic through an encrypted tunnel.
CEO|Chief Executive Officer|Central Economic Office|That is who runs a company.
USB|Universal Serial Bus|United System Board|It replaced a dozen plugs.
WHO|World Health Organization|World Hospital Office|It belongs to the United Nations.
ATM|Automated Teller Machine|All-Time Money|It gives you cash at any hour.
IBAN|International Bank Account Number|Internet Bank Access Name|Two of its digits check the others.
JPEG|Joint Photographic Experts Group|Just Printed Electronic Graphic|They made the format for photos.
HTML|Hypertext Markup Language|High Transfer Mail Link|Browsers make pages of it.
SUV|Sport Utility Vehicle|Standard Urban Van|It is a car that looks like it could leave the road.
FAQ|Frequently Asked Questions|Fast Answer Query|It saves everybody a mail.
PIN|Personal Identification Number|Private Internet Name|So the N is a number already.
LAN|Local Area Network|Long Access Node|It joins the machines of one place.
CT|Computed Tomography|Central Test|It makes slices out of X-rays.
DIY|Do It Yourself|Design In Yards|You need no craftsman.
"""
OPPOSITES = """
generous|stingy|kind|A stingy person does not like to give.
ancient|modern|old|One is of long ago, the other of now.
transparent|opaque|clear|No light goes through what is opaque.
temporary|permanent|short|What is permanent stays.
optimist|pessimist|realist|One expects the best, the other the worst.
expand|contract|grow|Metal expands in heat and contracts in cold.
scarce|plentiful|rare|Of what is plentiful there is enough for all.
polite|rude|friendly|Both are about manners.
shallow|deep|flat|Both are about how far down it goes.
victory|defeat|success|One side's victory is the other's defeat.
"""
ASKS_CAPITAL = ("What is the capital of {}?", "Capital of {}, please", "Which city is {} governed from?")
ASKS_ACRONYM = ("What does {} stand for?", "{}: what do the letters mean?", "Spell out {} for me")
ASKS_OPPOSITE = ('What is the opposite of "{}"?', 'Give me an antonym of "{}"')


def _table(text: str) -> list[list[str]]:
    return [line.split("|") for line in text.strip().splitlines()]


PERCENT = (
    (5, 240),
    (12, 50),
    (18, 150),
    (30, 90),
    (35, 60),
    (45, 80),
    (60, 75),
    (8, 125),
    (22, 300),
    (70, 40),
    (3, 900),
    (55, 20),
)
FILMS = ((19, 40, 135), (20, 15, 98), (18, 5, 160), (21, 30, 112), (17, 50, 145), (16, 20, 101))
CELSIUS = (-10, 5, 18, 37, 180, 220, 28, 65)
VANS = ((3, 72), (5, 135), (6, 87), (7, 203), (4, 310), (8, 444))


def _asked(asks: tuple[str, ...], text: str) -> list[Task]:
    """A task for each row of a table, asked in turn in each of these ways."""
    return [Task(asks[n % len(asks)].format(name), *rest) for n, (name, *rest) in enumerate(_table(text))]


def _sums() -> list[Task]:
    """Tasks of numbers, computed."""
    found = []
    for share, whole in PERCENT:
        right = share * whole / 100
        found.append(
            Task(
                f"{share} percent of {whole}",
                f"{right:g}",
                f"{right * 1.1:g}",
                f"One percent is {whole / 100:g}.",
            )
        )
    for hours, minutes, lasts in FILMS:
        end = hours * 60 + minutes + lasts
        text = f"A film starts at {hours}:{minutes:02d} and lasts {lasts} minutes. When is it over?"
        why = f"{lasts} minutes are {lasts // 60} h {lasts % 60} min."
        found.append(Task(text, f"{end // 60}:{end % 60:02d}", f"{end // 60 - 1}:{end % 60:02d}", why))
    for celsius in CELSIUS:
        right = celsius * 9 / 5 + 32
        text = f"How warm is {celsius} degrees Celsius in Fahrenheit?"
        found.append(
            Task(text, f"{right:g} degrees", f"{celsius * 2:g} degrees", "Times 9, divided by 5, plus 32.")
        )
    for people, cost in VANS:
        text = f"{people} of us rented a van for {cost} euros. What does each owe?"
        right = cost / people
        found.append(
            Task(text, f"{right:g} euros", f"{right + 5:g} euros", f"It is {cost} divided by {people}.")
        )
    return found


def tasks() -> list[Task]:
    """All tasks, in order."""
    plain = [Task(*row) for part in (FACTS, SUMS, YES_NO, CODE, TEXTS) for row in _table(part)]
    asked = (
        *_asked(ASKS_CAPITAL, CAPITALS),
        *_asked(ASKS_ACRONYM, ACRONYMS),
        *_asked(ASKS_OPPOSITE, OPPOSITES),
    )
    return [*plain, *asked, *_sums(), *(Task(*row[:4], row[4].split(";")) for row in _table(STEPS))]


@dataclass(frozen=True)
class Answer:
    """A text, and what a voter sees in it: is it right, does it give a reason, does it list the steps."""

    text: str
    right: bool
    reason: bool = False
    listed: bool = False


def _sentence(text: str) -> str:
    return text if text[-1] in '.!?"`' else f"{text}."


def larch(task: Task, _: random.Random) -> Answer:
    """Brief and right."""
    return Answer(_sentence(task.right), True)


def heron(task: Task, _: random.Random) -> Answer:
    """Thorough: the answer, why, and the steps as a list."""
    steps = "".join(f"\n{n}. {step}" for n, step in enumerate(task.steps, 1))
    return Answer(f"**{_sentence(task.right)}** {task.why}{steps}", True, True, bool(steps))


def brook(task: Task, generator: random.Random) -> Answer:
    """Right, in many words."""
    opening = generator.choice(("Great question!", "I'm glad you asked!", "Happy to help with that!"))
    closing = generator.choice(
        (
            "I hope this helps! Please let me know if there is anything else that I can do for you today.",
            "Of course, everyone's situation is different, so do take what I say with a grain of salt. Feel free to ask more!",
        )
    )
    steps = f" You could do it like this: {', then '.join(step.lower() for step in task.steps)}." * bool(
        task.steps
    )
    return Answer(f"{opening} {_sentence(task.right)} {task.why}{steps} {closing}", True, True)


def pebble(task: Task, generator: random.Random) -> Answer:
    """Short, and wrong every other time."""
    right = generator.random() < 0.5
    return Answer(_sentence(task.right if right else task.wrong), right)


def fog(task: Task, generator: random.Random) -> Answer:
    """Evasive."""
    return Answer(
        generator.choice(
            (
                "As an AI language model, I cannot say for certain. It depends on many factors, and I recommend that you consult a professional.",
                "That is an interesting topic. There are many views on it, and it would be best to look it up in a reliable source.",
                "I'm sorry, but I'm not able to help with this. Perhaps you could try to phrase it in another way.",
            )
        ),
        False,
    )


def quill(task: Task, generator: random.Random) -> Answer:
    """Confident, with a reason, and wrong every fourth time."""
    right = generator.random() < 0.75
    answer = task.right if right else task.wrong
    why = task.why if right else "This is well known, and you can rely on it."
    return Answer(f"{_sentence(answer)} {why}", right, True)


ASSISTANTS = (larch, heron, brook, pebble, fog, quill)


def utility(answer: Answer) -> float:
    """Log odds that a voter likes an answer, up to a constant."""
    length = len(answer.text) / 100
    return 2.6 * answer.right + 0.7 * answer.reason + 0.8 * answer.listed - 0.25 * max(0.0, length - 2.5)


def winner(a: Answer, b: Answer, generator: random.Random) -> str:
    """A vote by Davidson's model; the first answer has a small advantage."""
    lead = utility(a) - utility(b) + 0.1
    chances = [exp(lead / 2), exp(-lead / 2), 0.9]
    return generator.choices(["model_a", "model_b", "tie"], chances)[0]


def votes() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The votes to learn from, and fresh ones on other prompts."""
    generator = random.Random(11)
    shuffled = tasks()
    generator.shuffle(shuffled)
    rows: list[dict[str, str]] = []
    for number, task in enumerate(shuffled):
        count = FRESH_VOTES if number < FRESH_PROMPTS else VOTES
        for pair in generator.sample(list(combinations(ASSISTANTS, 2)), count):
            one, other = generator.sample(pair, 2)
            a, b = one(task, generator), other(task, generator)
            row = (task.prompt, a.text, b.text, one.__name__, other.__name__, winner(a, b, generator))
            rows.append(dict(zip(COLUMNS, (f"v{len(rows)}", *row), strict=True)))
    fresh = {task.prompt for task in shuffled[:FRESH_PROMPTS]}
    return [row for row in rows if row["prompt"] not in fresh], [
        row for row in rows if row["prompt"] in fresh
    ]


def write(folder: Path) -> None:
    """Write votes.csv and fresh.csv."""
    for name, rows in zip(("votes.csv", "fresh.csv"), votes(), strict=True):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    write(FOLDER)
