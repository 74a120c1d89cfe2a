"""Chinese descriptions of a scene; numbers and colors are the scene's own."""

from __future__ import annotations

from vision_ift.demo._scene import Scene
from vision_ift.demo._words import ordered, shared_color

# Category: measure word and noun.
_NOUNS = {
    "person": ("个", "人"),
    "dog": ("只", "狗"),
    "cat": ("只", "猫"),
    "bird": ("只", "小鸟"),
    "car": ("辆", "汽车"),
    "bus": ("辆", "公共汽车"),
    "train": ("列", "火车"),
    "boat": ("艘", "帆船"),
    "airplane": ("架", "飞机"),
    "traffic light": ("个", "红绿灯"),
    "stop sign": ("块", "停车标志"),
    "bench": ("张", "长椅"),
    "umbrella": ("把", "伞"),
    "sports ball": ("个", "球"),
    "kite": ("只", "风筝"),
    "bottle": ("个", "瓶子"),
    "cup": ("个", "杯子"),
    "banana": ("根", "香蕉"),
    "apple": ("个", "苹果"),
    "orange": ("个", "橙子"),
    "potted plant": ("盆", "植物"),
    "clock": ("个", "时钟"),
    "book": ("本", "书"),
}
_COLORS = {
    "red": "红色",
    "blue": "蓝色",
    "green": "绿色",
    "yellow": "黄色",
    "orange": "橙色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "black": "黑色",
    "white": "白色",
    "gray": "灰色",
}
_NUMBERS = ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十")
_CROWDS = {"person": "一群人", "bird": "一群小鸟", "orange": "一堆橙子"}
_PLACES = {
    "park": ("公园", "草地和树木"),
    "beach": ("海滩", "沙滩、大海和天空"),
    "street": ("城市街道", "路边的一排房子"),
    "kitchen": ("厨房", "木桌和窗户"),
    "railway": ("火车站", "铁轨和站台"),
    "room": ("客厅", "圆形地毯和窗户"),
    "snow": ("雪地", "雪、山丘和松树"),
}
_SKIES = {
    "sunny": "天气晴朗，阳光明媚",
    "cloudy": "天空布满灰色的云",
    "sunset": "太阳正在落山，天空被染成橙色",
    "night": "夜空中挂着月亮和星星",
}


def group_cn(scene: Scene, name: str) -> str:
    """All of a category as one Chinese phrase: ``两只红色的风筝``."""
    if name in scene.crowds:
        return _CROWDS[name]
    measure, noun = _NOUNS[name]
    color = shared_color(scene, name)
    count = _NUMBERS[len(scene.of(name))]
    return f"{count}{measure}{_COLORS[color] + '的' if color else ''}{noun}"


def describe_cn(scene: Scene) -> str:
    """A Chinese description of several sentences."""
    place, rest = _PLACES[scene.place]
    parts = [f"这是一幅描绘{place}的插画。"]
    if not scene.indoors:
        parts.append(f"{_SKIES[scene.sky]}。")
    groups = [group_cn(scene, name) for name in ordered(scene)]
    if groups:
        listed = groups[0] if len(groups) == 1 else f"{'、'.join(groups[:-1])}和{groups[-1]}"
        parts.append(f"画面中可以看到{listed}。")
    parts += [f"时钟显示的时间是{clock.detail}。" for clock in scene.of("clock")]
    if scene.sign:
        parts.append(f"商店的招牌上写着“{scene.sign}”。")
    parts.append(f"画面的其余部分是{rest}，整幅画色彩明快，线条简洁。")
    return "".join(parts)
