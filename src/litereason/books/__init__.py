"""`litereason books`: novels in, next-chapter pairs with story information out.

`novels` reads files into chapters (`epub`, `chapters`, `marks`, `numerals`), `filters` says which make a
pair, `writers` and `endpoint` are the LMs that write, `story` says what they are asked, `command` is the
command. What is left out: the task that reads the pairs.
"""
