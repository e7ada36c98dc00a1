"""Arms under several seeds, compared: `litereason compare`.

command.py   runs or reuses every arm
results.py   records -> comparison.json
"""
