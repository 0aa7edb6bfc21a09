"""A kit of pictures outside any task, drawn here: `footprint data kit --out DIR`.

Nothing is copied: texts and shapes are our own, and letters are drawn with the DejaVu fonts that matplotlib ships. The
same seed, size and versions of Pillow and matplotlib give the same bytes.

- `canvas`: A picture being drawn at twice its size, with text, boxes and wrapped paragraphs.
- `charts`: Bar, line and pie charts.
- `chats`: Screenshots of chats in several languages and themes.
- `contact_sheet`: One picture that shows samples of all kinds, to look at.
- `documents`: Letters, lists and invoices as scanned pages.
- `pages`: Pages of user interfaces: settings, a shop, a table.
- `plain`: Blank pictures, gradients and noise.
- `rows`: The rows of an out-of-distribution file about the pictures.
- `scenes`: Landscapes with houses, trees, a car and a sun or a moon.
- `texts`: What the pictures say, in each language.
- `write`: Draws a kit and writes its files.
"""
