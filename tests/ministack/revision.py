"""A number that changes whenever the certificates or the load balancers may have changed."""

number = 0


def changed() -> None:
    global number
    number += 1
