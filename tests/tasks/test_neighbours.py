"""The neighbours of a right answer that are other answers, kind by kind."""

import pytest
from tests.verdicts import pairs, verdict

from fedrlvr.tasks.task import Verdict

OTHER = r"""
\text{sine and cosine} | \text{sine or cosine}
y\ne 0\text{ and }z\ne0 | y\ne 0\text{ or }z\ne0
y>1\text{ and }y<6 | y>1\text{ or }y<6
y\ne2,y\ne5 | (-\infty,\infty)
y>0\text{ and }y\ne 5 | \mathbb{R}
\mathbb{R} | y>1\text{ and }y<6
y>0\text{ and }y<5\text{ or }y>7 | (-\infty,\infty)
a<b | (a,\infty)
h(2)=3 | h(3)=5
\gcd(m,n) | \gcd(m,k)
\sum_{k=0}^\infty c_k | \sum_{k=1}^\infty c_k
\frac{1}{m}\sum_{j=1}^m t_j | t_j
\lim_{n\to\infty} c_n | c_n
g^{-1}(x) | \frac{1}{g(x)}
\vec{u}\times\vec{w} | \vec{w}\times\vec{u}
\vec{u}\cdot\vec{w} | \vec{u}\times\vec{w}
\nabla\times\vec{B} | \nabla\cdot\vec{B}
q\mathbf{v}\times\mathbf{B} | q\mathbf{B}\times\mathbf{v}
m\times n | n\times m
\frac{dy}{dx} | \frac{dx}{dy}
\frac{\partial u}{\partial x} | \frac{\partial u}{\partial t}
4.2\text{ m}\,\text{s}^{-2} | 4.2\text{ ms}^{-2}
\text{Aa} | \text{AA}
\text{AaBb} | \text{aabb}
\neq 3 | = 3
x\ne-1 | x=-1
\binom{10}{3} | \binom{3}{10}
\frac{A}{a} | 1
A-a | 0
Bb | B^2
\pi R^2 | \pi r^2
X+x | 2x
\sin A | \sin a
G | g
\alpha | A
k_B | k_b
7 | 7\text{ halves}
7 | 7\text{ fifths}
7 | 7\text{ eighths}
7 | 7\text{ twelfths}
7 | 7\text{ score}
7 | 7\text{ lakh}
7 | 7\text{ billion}
7 | 7\text{ K}
7 | 7\text{ B}
7 | 7\text{ mn}
7 | 7\text{ trillion dollars}
7 | 7\text{ y}
7 | 7\mathrm{n}
7 | 7\text{ z}
7 | 7\text{ eleven}
7 | 7\text{ modulo } 5
7 | 7\text{ decimal}
7 | 7\text{ binary}
7 | 7\text{ below}
7 | 7\text{ negative}
7 | 7\text{ roots of }2
7 | 7\text{ minus}
7 | 7\text{ squares}
7 | 7\text{ cubes}
7 | 7\text{ cubed}
7 | 7\text{ inverse}
7 | 7\text{ percentile of x}
7 | 7\text{ or so}
7 | 7\text{ ish}
7 | 7\text{ not}
7 | 7\text{ is false}
7 | 7 thirds
7 | 7 million
7 | 7 dozen
7 | 7\text{ pairs short}
7 | 7\text{ apples and }3
2\times10^{-20} | 3\times10^{-20}
\frac{1}{3^{50}} | \frac{1}{3^{51}}
e^{-50} | e^{-51}
e^{-50} | 0
1-e^{-60} | 1
\sqrt{2}\cdot10^{-30} | \sqrt{3}\cdot10^{-30}
\pi\times10^{-25} | 3.14\times10^{-25}
\frac{1}{25!} | 0
x+\frac{1}{3^{50}} | x
\begin{pmatrix}0.1\\0.25\end{pmatrix} | \begin{pmatrix}0.1000001\\0.25\end{pmatrix}
\begin{pmatrix}\pi\\1\end{pmatrix} | \begin{pmatrix}3.141593\\1\end{pmatrix}
g'(x) | g(x)
g''(x) | g'(x)
B^T | B
B^{\top}C | BC
(AB)^T | AB
\sin 30^\circ | \sin 30
\cos 2 | \cos 2^\circ
\sin 1 | \sin 1^\circ
60^\circ | \frac{\pi}{3}
45\text{ kg} | 45\text{ g}
7:05\text{ p.m.} | 7:05\text{ a.m.}
7:05\text{ p.m.} | 7:06\text{ p.m.}
\text{March 3} | \text{March 4}
\text{March 3} | \text{May 3}
-3<t\le 5 | [-3,5]
x\ge -7 | (-7,\infty)
x<-1\text{ or }x>4 | (-1,4)
x>4 | (-\infty,4)
x<3 | y<3
(2,5) | \{2,5\}
(4,-1) | (a,b)=(-1,4)
(1,2,3) | b=1,a=2,c=3
12 | f(12)=3
6 | xy=6
10 | x+y=10
4 | x^2=4
P(A)=\frac12 | P(A)=\frac13
\log_2 5 | \log_5 2
\log_2 3 | \log 3
\log_{2}3 | \log 23
4.5\times10^{5} | 4.5\times10^{4}
4.5\times10^{5} | 4.5
2.5e-4 | 2.5e4
1,2,3,4,5,6,7,8,9,10,11,12 | 1,2,3,4,5,6,7,8,9,10,11,13
1,2,3,4,5,6,7,8,9,10,11,12 | 1,2,3,4,5,6,7,8,9,10,11
12,345 | 12.345
12345 | (12,345)
1,234 | 1,2,3,4
\$5 | 5\text{ cents}
n \equiv 3 \pmod{8} | n\equiv 3\pmod 7
\mathbb{R} | \mathbb{Z}
(0,3) | (0,1)\cup(1,3)
2+i | 2-i
i | -i
2i | 2
2i | 2j
\overline{z} | z
\frac{1}{2} | \frac{1}{2}+10^{-30}
1\frac{1}{2} | \frac{1}{2}
1\frac{3}{2} | \frac{5}{2}
\frac{x^2}{2}+C | \frac{x^2}{2}
\frac{x^2}{2}+C | \frac{x^3}{2}+C
\text{even} | \text{not even}
\text{Tuesday} | \text{Thursday}
\triangle ABC | \triangle ACB
f(g(x)) | g(f(x))
ABA^{-1} | B
A^{-1}B A | B
P^{-1}AP+B | A+B
x^{-1} | x
n!! | n!
n!! | (n!)!
5! | 5
a\equiv b | a=b
\|v\| | |v|
\lfloor x\rfloor | \lceil x\rceil
\sum_{k=1}^n k | \sum_{k=1}^n k^2
\sum_{k=1}^n a_k | \sum_{k=0}^n a_k
\hat{x} | x
\dot{x} | x
x_1 | x_2
x_1 | x
3^{\circ} | 3'
A\cup B | A\cap B
a\in B | a\notin B
\gamma | \Gamma
E | e
I | 1
S | s
\zeta | Z
"""


@pytest.mark.parametrize(("gold", "candidate"), pairs(OTHER))
def test_neighbours_of_a_right_answer_are_wrong(gold, candidate):
    assert verdict(gold, candidate) in (Verdict(0.0, "wrong"), Verdict(0.0, "unevaluated"))
