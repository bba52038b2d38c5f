"""The flat sheets: letter, receipts, form, menu, ticket, minutes, programme."""

from __future__ import annotations

import random

from lettering import INK, centred, font, lines, right
from PIL import Image, ImageDraw
from textures import noise, paper, stain


def letter(*, fax: bool = False) -> Image.Image:
    """A business letter on cream paper; as a fax, with the line the machine prints on top."""
    sheet = paper((1000, 1400), (255, 255, 255) if fax else (250, 247, 238), seed=31)
    draw = ImageDraw.Draw(sheet)
    if fax:
        lines(draw, (60, 24), "12-MAR 09:41   FROM: LINDEN & SONS   TO: 0204 771 830   P.01/01", "mono", 20)
    draw.text((100, 110), "Linden & Sons", fill=(60, 74, 90), font=font("serif-bold", 46))
    draw.text((102, 170), "Piano makers since 1894", fill=(110, 116, 124), font=font("serif-italic", 26))
    draw.line((100, 215, 900, 215), fill=(150, 150, 150), width=2)
    lines(draw, (100, 260), "Ms Clara Whitfield\n14 Orchard Lane\nMillbrook", "serif", 28)
    right(draw, 900, 260, "12 March", "serif", 28)
    draw.text((100, 430), "Your piano, No. 20817", fill=INK, font=font("serif-bold", 30))
    body = (
        "Dear Ms Whitfield,\n\n"
        "Your upright has now rested in our workshop for three weeks,\n"
        "and we are glad to tell you that the soundboard is sound.\n"
        "We have replaced eleven hammers and the whole of the felt,\n"
        "and tuned it twice; it should be tuned once more at your home.\n\n"
        "The cost comes to 640.00, of which 200.00 have been paid.\n"
        "Our carriers could bring it on Thursday the 21st before noon.\n"
        "Please let us know whether the gate is wide enough for the cart:\n"
        "it needs 1.60 metres.\n\n"
        "With kind regards,"
    )
    below = lines(draw, (100, 500), body, "serif", 29, leading=1.5)
    draw.text((110, below + 24), "Edwin Linden", fill=(42, 58, 120), font=font("serif-italic", 52))
    lines(draw, (100, below + 110), "Edwin Linden, master piano maker", "serif", 26)
    centred(draw, 500, 1330, "3 Mill Street, Millbrook    telephone 0204 771 831    lindenandsons.example", "serif", 21)
    return sheet


def receipt(*, taxi: bool = False) -> Image.Image:
    """A till receipt, or a short one from a taxi."""
    sheet = paper((430, 640) if taxi else (430, 1120), (247, 247, 244), seed=41 + taxi)
    draw = ImageDraw.Draw(sheet)
    ink = (58, 58, 66)
    if taxi:
        centred(draw, 215, 36, "CITY CAB 4471", "mono-bold", 34, ink)
        centred(draw, 215, 84, "Tel 555 0147", "mono", 22, ink)
        rows = [("Start", "18:02"), ("End", "18:27"), ("Distance", "9.4 km"), ("Tariff", "2"), ("Waiting", "3 min")]
        y = 160
        for name, value in rows:
            draw.text((40, y), name, fill=ink, font=font("mono", 25))
            right(draw, 390, y, value, "mono", 25, ink)
            y += 46
        draw.line((40, y + 6, 390, y + 6), fill=ink, width=2)
        draw.text((40, y + 26), "FARE", fill=ink, font=font("mono-bold", 38))
        right(draw, 390, y + 26, "21.60", "mono-bold", 38, ink)
        centred(draw, 215, y + 110, "Cash - thank you", "mono", 24, ink)
        return sheet
    centred(draw, 215, 40, "GREEN CORNER", "mono-bold", 38, ink)
    for step, line in enumerate(("Grocery & Bakery", "27 Hill Road", "VAT No. 118 204 553")):
        centred(draw, 215, 96 + step * 32, line, "mono", 21, ink)
    y = lines(draw, (34, 214), "Date 04/05  17:36   Till 02", "mono", 21, colour=ink) + 6
    draw.line((34, y, 396, y), fill=ink, width=1)
    y += 18
    for name, price in (
        ("Rye bread 750g", "3.20"),
        ("Milk 1 l", "1.15"),
        ("Butter", "2.49"),
        ("Tomatoes 0.62 kg", "1.92"),
        ("Olive oil", "7.95"),
        ("Coffee beans", "8.40"),
        ("Apples 1.2 kg", "2.76"),
        ("Dark chocolate x2", "4.30"),
    ):
        draw.text((34, y), name, fill=ink, font=font("mono", 21))
        right(draw, 396, y, price, "mono", 21, ink)
        y += 39
    draw.line((34, y + 2, 396, y + 2), fill=ink, width=1)
    draw.text((34, y + 18), "TOTAL", fill=ink, font=font("mono-bold", 36))
    right(draw, 396, y + 18, "32.17", "mono-bold", 36, ink)
    y = lines(draw, (34, y + 84), "CARD ****4410\nApproved 009127", "mono", 21, colour=ink) + 24
    chance = random.Random(5)
    x = 60
    while x < 370:
        width = chance.choice((2, 2, 3, 5))
        draw.rectangle((x, y, x + width - 1, y + 84), fill=ink)
        x += width + chance.choice((2, 3, 5))
    centred(draw, 215, y + 94, "4 006381 333931", "mono", 20, ink)
    centred(draw, 215, y + 142, "Thank you, come again!", "mono", 23, ink)
    return stain(sheet, noise(sheet.size, 43, (500, 30)), 0.06)


def form() -> Image.Image:
    """A library card application, filled in by hand in blue."""
    sheet = paper((960, 1260), (246, 246, 242), seed=51)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((60, 60, 900, 146), fill=(66, 92, 98))
    draw.text((84, 78), "APPLICATION FOR A READER'S CARD", fill=(250, 250, 246), font=font("sans-bold", 36))
    lines(draw, (62, 166), "Please write in block letters. Fields marked * are required.", "sans", 22)
    blue = (38, 58, 140)
    fields = [
        ("Family name *", "OKAFOR", 60, 230, 460),
        ("Given names *", "AMARA JANE", 480, 230, 900),
        ("Date of birth *", "17 / 09 / 1988", 60, 350, 360),
        ("Telephone", "0161 555 0182", 380, 350, 900),
        ("Street and number *", "5 CANAL WALK", 60, 470, 620),
        ("Flat", "2B", 640, 470, 900),
        ("Town *", "ASHFORD VALE", 60, 590, 620),
        ("Post code *", "AV4 7QT", 640, 590, 900),
        ("E-mail", "amara.okafor@mail.example", 60, 710, 900),
    ]
    for label, value, left, top, end in fields:
        draw.text((left, top), label, fill=(84, 84, 92), font=font("sans", 20))
        draw.rectangle((left, top + 28, end, top + 86), outline=(120, 120, 126), width=2)
        draw.text((left + 16, top + 38), value, fill=blue, font=font("serif-italic", 36))
    draw.text((60, 836), "I would like to borrow", fill=INK, font=font("sans-bold", 24))
    for number, (label, ticked) in enumerate((("Books", True), ("Music", True), ("Films", False), ("Maps", False))):
        left = 60 + number * 210
        draw.rectangle((left, 880, left + 32, 912), outline=INK, width=2)
        if ticked:
            draw.line(((left + 5, 896), (left + 14, 908), (left + 36, 872)), fill=blue, width=4)
        draw.text((left + 46, 882), label, fill=INK, font=font("sans", 25))
    lines(
        draw,
        (60, 956),
        "I have read the rules of the library and will return what I borrow\nin good condition and on time.",
        "sans",
        23,
    )
    draw.line((60, 1150, 380, 1150), fill=INK, width=2)
    draw.line((480, 1150, 900, 1150), fill=INK, width=2)
    draw.text((80, 1104), "3 June", fill=blue, font=font("serif-italic", 38))
    draw.text((520, 1094), "A. J. Okafor", fill=blue, font=font("serif-italic", 48))
    draw.text((60, 1160), "Date", fill=(84, 84, 92), font=font("sans", 20))
    draw.text((480, 1160), "Signature of the applicant", fill=(84, 84, 92), font=font("sans", 20))
    right(draw, 900, 1210, "Form L-12  rev. 4", "sans", 18, (110, 110, 116))
    return sheet


def menu() -> Image.Image:
    """A café's chalkboard."""
    size = (760, 1100)
    board = stain(Image.new("RGB", size, (46, 54, 52)), noise(size, 61, (90, 50)), 0.1)
    draw = ImageDraw.Draw(board)
    draw.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=(134, 94, 58), width=26)
    chalk, yellow, rose = (232, 230, 220), (240, 214, 130), (232, 170, 160)
    centred(draw, 380, 74, "Café Lumen", "serif-italic", 92, yellow)
    centred(draw, 380, 190, "TODAY'S KITCHEN", "light", 34, chalk)
    draw.line((130, 250, 630, 250), fill=chalk, width=3)
    y = 286
    for name, price, note in (
        ("Leek & potato soup", "5.50", "with toasted rye"),
        ("Wild mushroom tart", "8.90", "green salad, walnuts"),
        ("Lemon chicken", "11.40", "rice, spring peas"),
        ("Baked aubergine", "9.80", "tomato, feta, basil"),
        ("Apple crumble", "4.60", "vanilla custard"),
    ):
        draw.text((76, y), name, fill=chalk, font=font("serif", 42))
        right(draw, 684, y, price, "serif", 42, yellow)
        draw.text((80, y + 52), note, fill=rose, font=font("serif-italic", 30))
        y += 126
    centred(draw, 380, y + 14, "Coffee 2.40 · Tea 2.10", "serif", 38, chalk)
    centred(draw, 380, y + 72, "please order at the bar", "serif-italic", 34, rose)
    return stain(board, noise(size, 62, 3), 0.12)


def ticket() -> Image.Image:
    """A railway ticket with a tear-off end."""
    size = (1000, 480)
    card = paper(size, (240, 226, 190), seed=71)
    draw = ImageDraw.Draw(card)
    for step in range(-480, 1000, 14):  # the fine lines of a security print
        draw.line((step, 0, step + 480, 480), fill=(234, 216, 172), width=2)
    draw.rectangle((0, 0, 1000, 76), fill=(150, 52, 44))
    draw.text((30, 16), "COASTLINE RAILWAY", fill=(250, 240, 220), font=font("sans-bold", 42))
    right(draw, 970, 22, "STANDARD", "sans-bold", 32, (250, 240, 220))
    for x, label, value in ((34, "FROM", "PORT ELLERY"), (410, "TO", "SALTMARSH")):
        draw.text((x, 104), label, fill=(130, 100, 80), font=font("sans", 22))
        draw.text((x, 132), value, fill=INK, font=font("sans-bold", 44))
    for x, label, value in (
        (34, "DATE", "08 AUG"),
        (220, "DEPARTS", "07:52"),
        (410, "COACH", "C"),
        (560, "SEAT", "34"),
    ):
        draw.text((x, 226), label, fill=(130, 100, 80), font=font("sans", 22))
        draw.text((x, 254), value, fill=INK, font=font("mono-bold", 40))
    lines(draw, (34, 348), "Valid on this train only. Keep until the end of the journey.", "sans", 22)
    draw.text((34, 396), "No. 551 20837 004", fill=(150, 52, 44), font=font("mono", 32))
    for y in range(84, 480, 16):
        draw.line((756, y, 756, y + 8), fill=(120, 100, 80), width=3)
    lines(draw, (786, 104), "Price", "sans", 22, colour=(130, 100, 80))
    draw.text((786, 132), "18.50", fill=INK, font=font("sans-bold", 54))
    lines(draw, (786, 226), "SEAT 34 C\n08 AUG\n07:52", "mono-bold", 34)
    draw.text((786, 404), "00417", fill=(150, 52, 44), font=font("mono", 32))
    return card


def minutes(number: int) -> Image.Image:
    """One of three typed pages of a village meeting."""
    sheet = Image.new("RGB", (850, 1180), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    texts = {
        1: "MINUTES OF THE VILLAGE MEETING\n\nHeld in the school hall, 7 October\n\n"
        "Present: 41 members\nIn the chair: Mrs Hallam\nMinutes: Mr Pryce\n\n"
        "1. The bridge\n\nThe council offers to pay one half of the\nrepair. The other half would be raised by\n"
        "the harvest fair and by subscription.\nCarried with 38 votes against 3.",
        2: "2. The bus\n\nThe evening bus has been late eleven times\nsince August. Mr Pryce will write to the\n"
        "company and ask for a new timetable.\n\n3. The pond\n\nVolunteers will clear the reeds on the\n"
        "first Saturday in November at 9 o'clock.\nTools will be provided; bring gloves.",
        3: "4. Accounts\n\nBalance brought forward      412.30\nHarvest fair                 286.75\n"
        "Subscriptions                164.00\nRepairs to the hall roof    -198.40\n"
        "                            -------\nBalance                      664.65\n\n"
        "The next meeting is on 2 December.\n\nSigned:   R. Hallam      D. Pryce",
    }
    lines(draw, (90, 110), texts[number], "typewriter", 27, leading=1.6)
    centred(draw, 425, 1110, f"- {number} -", "typewriter", 25)
    return sheet


def programme(number: int) -> Image.Image:
    """One of three leaves of a concert programme."""
    sheet = paper((700, 990), (252, 250, 244), seed=80 + number)
    draw = ImageDraw.Draw(sheet)
    plum = (98, 44, 82)
    draw.rectangle((36, 36, 664, 954), outline=plum, width=3)
    if number == 1:
        centred(draw, 350, 210, "An Evening", "serif-italic", 78, plum)
        centred(draw, 350, 306, "of Chamber Music", "serif-italic", 62, plum)
        draw.line((200, 420, 500, 420), fill=plum, width=2)
        centred(draw, 350, 450, "THE MARLOWE QUARTET", "serif-bold", 36)
        centred(draw, 350, 520, "St. Anne's Hall", "serif", 34)
        centred(draw, 350, 568, "Saturday, 14 June, 7.30 pm", "serif", 34)
        centred(draw, 350, 860, "Admission free · Retiring collection", "serif-italic", 28, plum)
    elif number == 2:
        centred(draw, 350, 90, "Programme", "serif-italic", 58, plum)
        y = 210
        for composer, work, parts in (
            ("Joseph Haydn", "Quartet in D major, Op. 64 No. 5", "Allegro · Adagio · Menuetto · Finale"),
            ("Fanny Hensel", "Quartet in E flat major", "Adagio · Allegretto · Romanze · Allegro"),
            ("Antonín Dvořák", "Quartet in F major, Op. 96", "Allegro · Lento · Molto vivace · Finale"),
        ):
            centred(draw, 350, y, composer, "serif-bold", 34)
            centred(draw, 350, y + 50, work, "serif", 30)
            centred(draw, 350, y + 94, parts, "serif-italic", 25, plum)
            y += 200
        centred(draw, 350, 850, "Interval of twenty minutes", "serif-italic", 28)
    else:
        centred(draw, 350, 90, "The players", "serif-italic", 58, plum)
        players = "Helen Marlowe, first violin\nJun Takeda, second violin\nOskar Lind, viola\nPriya Raman, violoncello"
        lines(draw, (110, 220), players, "serif", 34, leading=1.7)
        notes = (
            "The quartet has played together since their\nstudent days and spends each summer in a\n"
            "farmhouse by the sea, where most of their\nprogrammes are made.\n\n"
            "Photography during the concert is kindly\ndiscouraged; the birds in the churchyard\n"
            "may be heard free of charge."
        )
        lines(draw, (84, 520), notes, "serif", 27)
    return sheet
