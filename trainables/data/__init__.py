"""From files to tensors: rows, formats, images, chat templates, packing, filters and checks of data."""
