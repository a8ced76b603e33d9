"""What this machine can do, tried rung by rung, and what to do about the rest.

ladder     every rung: of this machine, of each engine (which offers its own), of peers
verdict    what follows from them: which backends run, what to type next (pure)
climb      both as a value that a notebook shows
render     both as text, for a terminal or for a file (pure)
"""
