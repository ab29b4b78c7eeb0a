"""`python -m attribute_courier.cli` is `courier`."""

from .main import main

main(prog_name="courier")
