"""Into S3: where to (``destination``, ``keys``), told what (``options``), and how (``objects``, ``sending``)."""
