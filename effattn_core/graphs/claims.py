"""What the paper on graphs says, and how this library measures it."""

from effattn_core.ledger import Claim

CLAIMS: list[Claim] = [
    # TO WRITE: a Claim for each statement that the chapter repeats, arguments by name: its table or section,
    # its figure, what measures ours, under which conditions. One that is not reproduced stays, and says so.
]
