"""Tests the placement of labels near crowded points."""

from __future__ import annotations

from itertools import combinations

from analysis.charts.labels import place_labels

CHARACTER = (5.0, 11.0)


def test_labels_cover_neither_each_other_nor_leave_the_area():
    points = [(300.0, 200.0), (303.0, 202.0), (306.0, 200.0), (2.0, 2.0), (598.0, 398.0), (300.0, 205.0)]
    texts = ["C2 L2·V4", "C3 L2·V6", "D1 L4·V2", "A0 L0·V0", "B3 L0·V6", "D2 L4·V4"]
    offsets = place_labels(points, texts, (600.0, 400.0), CHARACTER)
    boxes = []
    for (x, y), offset, text in zip(points, offsets, texts, strict=True):
        assert offset is not None
        right, up = offset
        half = (len(text) * CHARACTER[0] / 2, CHARACTER[1] / 2)
        boxes.append((x + right - half[0], y + up - half[1], x + right + half[0], y + up + half[1]))
    for left, bottom, right, top in boxes:
        assert left >= 0 and bottom >= 0 and right <= 600 and top <= 400
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_label_without_room_is_left_out():
    points, texts = [(100.0, 50.0)] * 60, ["a label of many letters"] * 60
    offsets = place_labels(points, texts, (200.0, 100.0), CHARACTER)
    assert offsets[0] is not None and offsets.count(None) > 40
    near = place_labels([(100.0, 50.0)] * 9, texts[:9], (800.0, 400.0), CHARACTER, [False] * 9)
    assert all(one is None or abs(one[0]) + abs(one[1]) < 100 for one in near)
