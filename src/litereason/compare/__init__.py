"""Arms under several seeds, compared: `litereason compare`.

config.py    what it is told
command.py   runs or reuses every arm
read.py      run directories -> arms by seeds by items, refused where they cannot be compared
pairs.py     which arms are compared, and in which families p-values are corrected
results.py   figures and paired differences -> comparison.json; no torch
"""
