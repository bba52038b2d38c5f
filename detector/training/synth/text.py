"""What synthetic pages say: signs, names, numbers and prose in Chinese and English."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from detector.training.synth.font import Face, simplified_characters, traditional_characters

_SIGNS = (
    "超市 药店 酒店 餐厅 银行 出口 入口 停车场 洗手间 禁止吸烟 请勿入内 小心地滑 欢迎光临 营业时间 收银台 电话 地址 "
    "有限公司 中国邮政 火锅 牛肉面 奶茶 烧烤 理发 美容 服装 手机 维修 打印 复印 图书馆 教学楼 办公室 消防栓 安全出口 "
    "北京路 人民路 中山路 大道 地铁站 公交站 医院 学校 幼儿园 派出所 大药房 便利店 水果 蔬菜 早餐 快递 房产 中介 "
    "特价 优惠 促销 全场 折起 新品上市 限时 免费 专卖店 旗舰店 茶叶 烟酒 海鲜 川菜 湘菜 小吃 网吧 宾馆 招待所 会议室 "
    "请勿踩踏草坪 有电危险 禁止停车 禁止攀登 请保持安静 请随手关门 推 拉 男 女 当心触电 消防通道 严禁烟火 灭火器 "
    "可回收垃圾 不可回收 纸张类 公用电话 自行车库 步行街 写字楼 国际广场 科技大厦 建设银行 工商银行 农业银行 "
    "饮水机 打印室 茶水间 值班室 配电室 机房 实验室 接待处 问讯处 售票处 候车室 安检 海关 出租车 临时停车 收费站 "
    "限速 注意安全 前方施工 绕行 单行道 慢 减速慢行 学校路段 人行横道 开放时间 游客止步 员工通道 顾客须知 温馨提示"
)
_PLACES = "北京 上海 中关村 海淀 朝阳 西直门 知春 学院 成府 善缘 彩和坊 长安 复兴 建国 南京 广州 天津 杭州 东方 新华"
_ROADS = "路 街 大街 胡同 桥 大厦 广场 小区 公园 酒店 餐厅 书店 超市 医院 学校 银行 集团 公司 中心 俱乐部 会馆"
_SYLLABLES = (
    "a ai an bai bei bin cai chang cheng chong da dao dong fang feng fu gang guan hai han he hu jian jie jin kai "
    "lan li lian lin long lu ma men min ming nan ning ping qi qing quan shan shi tai tang tian tong wan wei wen wu "
    "xi xian xin ya yan yang yi ying yong yu yuan yun zhao zhen zhi zhong zhou"
)
_ENGLISH = (
    "the of and to in for is on by this with you it not or be are from at as your all have new more an was we will "
    "home can us about if page my has search free but our one other do no information time they site he up may what "
    "news out use any there see only so his when contact here business who web also now help get view online "
    "first been would how were services some these click its like service than find price date back top people had "
    "list name over state year day into email two health world next used go work last most products music buy data "
    "make them should product system post her city add policy number such please available copyright support message "
    "after best software then good video well where info rights public books high school through each links she review "
    "years order very privacy book items company read group need many user said does set under general research "
    "university mail full map reviews program life know games way days management part could great united hotel "
    "real item international center exit open closed coffee market street station bank parking restaurant cafe total "
    "amount cash change invoice receipt tax quantity description subject memo report approved signature department "
    "danger caution notice warning toilet telephone emergency fire hydrant no smoking push pull only entrance building "
    "technology power supply office conference room reserved in use wet floor keep clean save water paper recyclable"
)
_SIGN_WORDS, _ENGLISH_WORDS = _SIGNS.split(), _ENGLISH.split()
_PLACE_WORDS, _ROAD_WORDS, _PINYIN = _PLACES.split(), _ROADS.split(), _SYLLABLES.split()
_SYMBOLS = "&-/:.,()%#*+@!"


def _one(rng: np.random.Generator, words: list[str] | tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def number(rng: np.random.Generator) -> str:
    """A price, date, telephone number, code or count."""
    digits = "".join(map(str, rng.integers(0, 10, 12)))
    forms = (
        f"{int(digits[:3])}.{digits[3:5]}",
        f"{int(digits[:2]) % 28 + 1:02}/{int(digits[2:4]) % 12 + 1:02}/20{int(digits[4:6]) % 26:02}",
        f"{digits[:3]}-{digits[3:7]}-{digits[7:11]}",
        f"${int(digits[:4])}.{digits[4:6]}",
        digits[: int(rng.integers(1, 9))],
        f"{digits[:2]}:{int(digits[2:4]) % 60:02}",
        f"{chr(65 + int(digits[0]))}{digits[1:5]}-{digits[5:7]}",
        f"0{digits[:2]}-{digits[2:10]}",
        f"1{digits[:2]} {digits[2:6]} {digits[6:10]}",
        f"20{int(digits[:2]) % 26:02}-{int(digits[2:4]) % 12 + 1:02}-{int(digits[4:6]) % 28 + 1:02}",
        f"{digits[:2]}:00-{digits[2:4]}:30",
        f"{int(digits[:2])}%",
        f"No.{int(digits[:3])}",
    )
    return forms[int(rng.integers(len(forms)))]


def brand(rng: np.random.Generator) -> str:
    """A pronounceable word that is in no dictionary, or a name in pinyin."""
    if rng.random() < 0.5:
        return "".join(rng.choice(_PINYIN, int(rng.integers(2, 4))))
    heads, vowels, tails = list("bcdfghjklmnprstvwz"), list("aeiou"), ["", "", "n", "r", "x", "s", "l"]
    parts = (_one(rng, heads) + _one(rng, vowels) + _one(rng, tails) for _ in range(int(rng.integers(2, 4))))
    return "".join(parts)


def english(rng: np.random.Generator, words: int) -> str:
    """Some words, in one of the usual cases, sometimes with numbers and punctuation."""
    chosen = []
    for _ in range(words):
        word = _one(rng, _ENGLISH_WORDS)
        chance = rng.random()
        if chance < 0.1:
            word = number(rng)
        elif chance < 0.2:
            word = brand(rng)
        elif chance < 0.28:
            word = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(3, 11))))
        if rng.random() < 0.06:
            word += str(rng.choice(list(_SYMBOLS)))
        chosen.append(word)
    text = " ".join(chosen)
    style = rng.random()
    return text.upper() if style < 0.35 else text.title() if style < 0.65 else text


def latin_sign(rng: np.random.Generator) -> str:
    """What a sign says in Latin letters: a word or two, a brand, a road in pinyin, an address of the web, a number."""
    kind = rng.random()
    if kind < 0.2:
        return number(rng)
    if kind < 0.38:
        name = brand(rng)
        return name.upper() if rng.random() < 0.45 else name.title() if rng.random() < 0.6 else name
    if kind < 0.48:
        road = "".join(rng.choice(_PINYIN, int(rng.integers(2, 5)))) + _one(rng, (" lu", " jie", " Rd", " Street", ""))
        return road.upper() if rng.random() < 0.6 else road.title()
    if kind < 0.53:
        site = f"{brand(rng)}.{_one(rng, ('com', 'cn', 'com.cn', 'net'))}"
        return _one(rng, ("www.", "http://www.", "")) + site
    if kind < 0.6:
        letters = "".join(chr(65 + int(code)) for code in rng.integers(0, 26, int(rng.integers(1, 4))))
        return letters if rng.random() < 0.5 else letters + str(rng.integers(1, 100))
    if kind < 0.66:
        return f"{english(rng, 1)} {_one(rng, ('&', '·', '-', '+', '/', '★'))} {english(rng, 1)}"
    return english(rng, int(rng.choice((1, 1, 1, 2, 2, 3, 4, 6))))


def chinese(rng: np.random.Generator, length: int, face: Face) -> str:
    """About ``length`` characters that the face has, sometimes real words of signs, sometimes with digits or Latin."""
    if rng.random() < 0.35:
        text = "".join(rng.choice(_SIGN_WORDS, max(1, length // 3)))
    else:
        pool = _character_pool(face)
        text = "".join(rng.choice(pool, length)) if len(pool) else ""
    if rng.random() < 0.12:
        text += number(rng)
    if rng.random() < 0.08:
        text = english(rng, 1) + " " + text
    return _only(text, face)


def chinese_sign(rng: np.random.Generator, face: Face) -> str:
    """What a sign says in Chinese: words, names of places and shops, notices with punctuation, mixed with Latin."""
    pool, kind = _character_pool(face), rng.random()
    loose = "".join(rng.choice(pool, int(rng.integers(1, 9)))) if pool else ""
    if kind < 0.22:
        text = _one(rng, _SIGN_WORDS)
    elif kind < 0.36:
        text = _one(rng, _PLACE_WORDS) + loose[:2] + _one(rng, _ROAD_WORDS)
    elif kind < 0.42:
        text = f"{_one(rng, ('电话', '手机', '热线', '营业时间', '地址', '联系人', '传真'))}：{number(rng)}"
    elif kind < 0.5:
        mark, end = _one(rng, ("，", "、", "！", "·", " ", "。")), _one(rng, ("！", "。", "", ""))
        text = f"{loose[:4]}{mark}{_one(rng, _SIGN_WORDS)}{end}"
    elif kind < 0.56:
        text = f"{_one(rng, _SIGN_WORDS)} {brand(rng).upper() if rng.random() < 0.5 else brand(rng).title()}"
    elif kind < 0.62:
        text = f"{brand(rng).title()}{_one(rng, ('', ' ', ' '))}{loose[:5]}"
    elif kind < 0.67:
        text = f"{loose[:3]}{rng.integers(1, 1000)}{_one(rng, ('元', '号', '楼', '室', '年', '米', '路'))}{loose[3:5]}"
    elif kind < 0.72:
        text = f"{loose[:1]}{chr(65 + int(rng.integers(26)))}·{rng.integers(10000, 99999)}"
    elif kind < 0.8:
        text = "".join(rng.choice(pool, int(rng.integers(8, 20)))) if pool else ""
    else:
        text = loose
    return _only(text, face)


def _only(text: str, face: Face) -> str:
    return "".join(character for character in text if character in face.characters or character == " ").strip()


@lru_cache(maxsize=128)
def _character_pool(face: Face) -> tuple[str, ...]:
    simple = [character for character in simplified_characters() if character in face.characters]
    if len(simple) > 3000:
        return tuple(simple)
    return tuple(character for character in traditional_characters() if character in face.characters)
