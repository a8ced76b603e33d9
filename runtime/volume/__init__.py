"""What a container sees besides its image: directories of the host, volumes, memory.

``mount`` reads what was asked for (pure), ``volumes`` keeps the named ones, ``filling`` gives a
new one what the image has in its place.
"""
