"""Names for containers that were given none: an adjective and the surname of a scientist, `eager_noether`."""

from __future__ import annotations

from collections.abc import Callable, Container

_ADJECTIVES = """
able agile amber ample apt bold brave brief bright brisk calm candid civil clear clever cosy crisp curious daring deft
eager early easy exact fair fancy fast fine firm fleet fond frank free fresh gentle glad golden good grand great happy
hardy honest humble jolly keen kind lively loyal lucid lucky mellow merry mild modest neat nice nimble noble open
patient plain polite prime proud quick quiet rapid ready rosy sharp shiny silent smart smooth snug sober solid spry
stable steady still strong subtle sunny sure swift tender tidy true upbeat vivid warm wise witty
"""
_SURNAMES = """
abel agnesi ampere archimedes babbage banach bernoulli bohr boole born bose boyle brahe cantor carson cauchy cavendish
chandra church copernicus coulomb curie dalton darwin dijkstra dirac einstein erdos euclid euler faraday fermat fermi
feynman fourier franklin galileo galois gauss germain godel goodall hamilton heisenberg hertz hilbert hodgkin hooke
hopper hubble hypatia jacobi joliot joule kepler knuth kovalevskaya lagrange laplace lavoisier leavitt leibniz
lovelace mach maxwell mcclintock meitner mendel mirzakhani newton nightingale noether ohm pascal pasteur pauli planck
poincare ptolemy ramanujan riemann ritchie rutherford sagan schrodinger shannon tesla turing volta wallis watt wiles
wu yalow
"""


def generate(choose: Callable[[int], int], taken: Container[str]) -> str:
    """A name that is not in `taken`; `choose(n)` gives a number below n.  After some tries a digit is added."""
    adjectives, surnames = _ADJECTIVES.split(), _SURNAMES.split()
    name = ""
    for attempt in range(64):
        name = f"{adjectives[choose(len(adjectives))]}_{surnames[choose(len(surnames))]}"
        if attempt >= 6:
            name += str(choose(10 ** (attempt // 6)))
        if name not in taken:
            break
    return name
