"""Who lives in the village, what is there, and who owns what: the stock of the small world.

The stock (names, places, things) is the same for every seed, so that answers can be judged without knowing the
seed; the facts about residents (job, home, friend, phone) are drawn from it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

LANGUAGES = ("en", "zh")

_WOMEN = (
    "Mia Ann Eva Amy Zoe Lia Ida Ada Ivy Joy Kim Lea Liz Meg Nan Pam Rae Sue Una Vera "
    "Dora Ella Emma Gail Hana Iris Jane Kate Lena Lucy Mary Nina Nora Olga Rita Rosa Ruth Sara Tina Wren"
).split()
_MEN = (
    "Ben Tom Sam Max Leo Tim Jim Joe Dan Ian Jack Kai Lee Ned Otto Paul Ray Rob Ron Roy "
    "Sid Ted Vic Wim Abe Alf Bob Carl Dirk Earl Finn Gus Hugo Igor Karl Luke Nick Omar Owen Pete"
).split()
_ZH_WOMEN = [prefix + name for prefix in "小阿大老" for name in "梅兰芳莲玉珍霞丽敏娟"]
_ZH_MEN = [prefix + name for prefix in "小阿大老" for name in "明强伟刚辉勇亮斌杰涛"]

_PLACES = (
    "park 公园,garden 花园,farm 农场,lake 湖边,river 河边,hill 山上,beach 海边,forest 树林,market 市场,"
    "school 学校,library 书馆,shop 商店,bakery 面包店,mill 磨坊,bridge 桥上,tower 塔上,gate 门口,well 井边,"
    "barn 谷仓,station 车站,port 港口,temple 寺庙,museum 画馆,clinic 医院,hotel 旅馆,cafe 茶馆,kitchen 厨房,"
    "hall 大厅,yard 院子,square 广场,pond 池边,field 田里,orchard 果园,stable 马房,factory 工厂,theatre 剧院,"
    "bank 银行,zoo 动物园,pool 泳池,camp 营地"
)

# English, Chinese, Chinese measure word ("个" when left out).
_OBJECTS = {
    "fruits": "apple 苹果,pear 梨子,plum 李子,peach 桃子,grape 葡萄,melon 瓜,lemon 柠檬,cherry 樱桃",
    "animals": "cat 猫 只,dog 狗 只,cow 牛 头,horse 马 匹,duck 鸭子 只,fish 鱼 条,bird 鸟 只,sheep 羊 只,"
    "rabbit 兔子 只,pig 猪 头",
    "vegetables": "carrot 萝卜,bean 豆子,onion 葱,potato 土豆,corn 玉米,cabbage 白菜",
    "drinks": "tea 茶 杯,milk 牛奶 杯,water 水 杯,juice 果汁 杯,coffee 咖啡 杯,soup 汤 碗",
    "tools": "hammer 锤子,saw 锯子,axe 斧子,spade 铲子,rope 绳子,broom 扫把,knife 刀,ladder 梯子",
    "clothes": "hat 帽子,coat 大衣,shoe 鞋子,sock 袜子,scarf 围巾,shirt 衬衫,glove 手套,belt 腰带",
    "toys": "ball 球,kite 风筝,doll 娃娃,drum 鼓,puzzle 拼图,whistle 哨子",
    "things": "book 书 本,cup 杯子,bowl 碗,plate 盘子,lamp 灯 盏,bell 铃,key 钥匙 把,box 盒子,bag 包,chair 椅子 把,"
    "table 桌子 张,clock 钟,mirror 镜子 面,coin 硬币,ring 戒指,boat 船 条,cart 车 辆,pen 笔 支,map 地图 张,"
    "basket 篮子,candle 蜡烛,pillow 枕头,blanket 毯子,umbrella 雨伞 把,stone 石头,flower 花 朵,leaf 叶子,"
    "bottle 瓶子,flute 笛子,picture 画 张,window 窗子",
    "foods": "bread 面包,cake 蛋糕,egg 鸡蛋,rice 米饭",
}

_ADJECTIVES = "red 红,blue 蓝,green 绿,white 白,black 黑,yellow 黄,big 大,small 小,new 新,old 旧,good 好,cheap 便宜"
_JOBS = (
    "baker 面包师,farmer 农民,teacher 老师,doctor 医生,nurse 护士,painter 画家,fisher 渔民,guard 门卫,cook 厨师,"
    "tailor 裁缝"
)


@dataclass(frozen=True)
class Name:
    """A resident's name in both languages; `female` decides the pronoun."""

    en: str
    zh: str
    female: bool

    def text(self, lang: str) -> str:
        """The name as written in `lang`."""
        return self.en if lang == "en" else self.zh


@dataclass(frozen=True)
class Word:
    """A word of the village in both languages; `measure` is the Chinese measure word, `group` its category."""

    en: str
    zh: str
    group: str = ""
    measure: str = "个"

    def text(self, lang: str) -> str:
        """The word as written in `lang`."""
        return self.en if lang == "en" else self.zh


def _words(table: str, group: str) -> tuple[Word, ...]:
    words = []
    for entry in table.split(","):
        parts = entry.split()
        words.append(Word(parts[0], parts[1], group, parts[2] if len(parts) > 2 else "个"))
    return tuple(words)


NAMES: tuple[Name, ...] = tuple(
    name
    for pair in zip(
        (Name(en, zh, True) for en, zh in zip(_WOMEN, _ZH_WOMEN, strict=True)),
        (Name(en, zh, False) for en, zh in zip(_MEN, _ZH_MEN, strict=True)),
        strict=True,
    )
    for name in pair
)
PLACES = _words(_PLACES, "places")
OBJECTS: dict[str, tuple[Word, ...]] = {group: _words(table, group) for group, table in _OBJECTS.items()}
ADJECTIVES = _words(_ADJECTIVES, "adjectives")
JOBS = _words(_JOBS, "jobs")
# Things that can be owned, carried, lost and lent: what stories, facts and requests are about.
CARRIED = OBJECTS["things"] + OBJECTS["clothes"] + OBJECTS["toys"] + OBJECTS["tools"][:5]
ANIMALS = OBJECTS["animals"]
GROUP_NAMES = {
    "fruits": ("fruits", "水果"),
    "animals": ("animals", "动物"),
    "vegetables": ("vegetables", "蔬菜"),
    "drinks": ("drinks", "饮料"),
    "tools": ("tools", "工具"),
    "clothes": ("clothes", "衣物"),
    "toys": ("toys", "玩具"),
}

_FEMALE = {text for name in NAMES if name.female for text in (name.en, name.zh)}
_MEASURES = {word.zh: word.measure for words in OBJECTS.values() for word in words}


def is_female(name: str) -> bool:
    """Whether a resident's name, in either language, is a woman's."""
    return name in _FEMALE


def measure(thing: str) -> str:
    """The Chinese measure word of a thing ("个" for anything unknown)."""
    return _MEASURES.get(thing, "个")


@dataclass(frozen=True)
class Resident:
    """One person and what is true of them; `phone`, `house` and `wifi` are private."""

    name: Name
    job: Word
    home: Word
    owns: Word
    colour: Word
    friend: Name
    phone: str
    house: str
    wifi: str


class World:
    """The facts of one village: 80 residents with job, home, belongings, a friend and private data.

    `female_share` is the share of women among the residents that corpora speak of (0.5: as many as men).
    """

    def __init__(self, seed: int = 0, female_share: float = 0.5) -> None:
        rng = random.Random(f"world|{seed}")
        women = [name for name in NAMES if name.female]
        men = [name for name in NAMES if not name.female]
        share = min(max(female_share, 0.02), 0.98)
        if share >= 0.5:
            men = men[: max(1, round(len(women) * (1 - share) / share))]
        else:
            women = women[: max(1, round(len(men) * share / (1 - share)))]
        chosen = women + men
        self.residents: tuple[Resident, ...] = tuple(
            Resident(
                name=name,
                job=rng.choice(JOBS),
                home=rng.choice(PLACES),
                owns=rng.choice(CARRIED),
                colour=rng.choice(ADJECTIVES[:6]),
                friend=rng.choice([other for other in chosen if other != name]),
                phone=f"1{rng.randrange(3, 10)}{rng.randrange(10**9):09d}",
                house=f"{rng.randrange(2, 99)}",
                wifi=f"{rng.choice('abcdefghk')}{rng.choice('mnpqrstw')}{rng.randrange(1000, 9999)}",
            )
            for name in chosen
        )
