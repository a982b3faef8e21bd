"""Spellings of one answer, kind by kind, and the neighbours of a right answer that are others."""

import pytest

from fedrlvr.tasks import TASKS
from fedrlvr.tasks.task import Verdict
from fedrlvr.types import Problem


def verdict(gold: str, candidate: str) -> Verdict:
    return TASKS["math"].verify(Problem("x", "?", gold), f"so \\boxed{{{candidate}}}.")


# Gold | answer. Spellings of one answer, kind by kind.
SAME = r"""
4\text{ and }7 | 7\text{ or }4
y=a\text{ or }y=b | y=b\text{ and }y=a
\text{sine and cosine} | \text{sine and cosine}.
2t | \frac{dx}{dt}=2t
\gcd(m,n) | \gcd(n,m)
a<b | b>a
y\ge 1\text{ and }y\ne 4 | [1,4)\cup(4,\infty)
t>-3 \text{ and } t \le 6 | (-3,6]
t>-3, t\le 6 | (-3,6]
t<-3, t\ge 6 | (-\infty,-3)\cup[6,\infty)
(0,1)\cup(1,\infty) | x>0, x\neq 1
\frac{bh}{2} | \frac12\times b\times h
\sum_{k=1}^n c_k | \sum_{k=1}^{n}c_{k}
4.2\text{ m/s}^2 | 4.2\,\text{m}\,\text{s}^{-2}
4.2\text{ J}\cdot\text{s} | 4.2\ \mathrm{J\cdot s}
12\text{ g/mol} | 12\,\mathrm{g\,mol^{-1}}
3 | 3\text{ keV}
38^\circ\text{C} | 38\text{ degrees Celsius}
n\equiv2\pmod 9 | n\equiv 2\ (\text{mod }9)
n\equiv2\pmod 9 | n \equiv 2 \mod 9
4 | 4\text{ real solutions}
\text{no solution} | \text{No solutions}
\mathbb{R} | \text{all real numbers}
(2,\infty) | \{t\in\mathbb{R}:t>2\}
\text{Aa} | Aa
\neq 3 | \ne 3
x \neq -1 | x\ne-1
\binom{10}{3} | \binom{10} 3
\begin{pmatrix}3\\4\end{pmatrix} | \begin{bmatrix} 3 \\[2pt] 4 \end{bmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \left(\begin{array}{cc}1&2\\3&4\end{array}\right)
\varnothing | \emptyset
\$45,678 | 45678
\$45,678.90 | \$45{,}678.90
45678 | 45,678 dollars
12345678 | 12,\!345,\!678
12,\!345,\!678 | 12345678
12345678 | 12{,}345{,}678
12345678 | 12\,345\,678
3,500\pi | 3500\pi
A=2{,}500 | 2,500
1500\text{ mL} | 1,500 mL
120 | 120 mmHg
120\text{ mmHg} | 120\ \text{mm Hg}
7 | 7\text{ mg/dL}
7\text{ mg/dL} | 7\text{ mg per dL}
25 | 25\text{ mcg}
25\text{ mcg} | 25\text{ micrograms}
25\text{ mcg} | 25\ \mu\text{g}
25\text{ mcg} | 25 μg
0.5 | 0.5 mL/kg/hr
4 | 4\text{ hrs}
4\text{ hours} | 4\text{ hr}
100 | 100\text{ mEq/L}
2 | 2 tablets
2 | 2\text{ tablets per day}
80 | 80 beats per minute
80\text{ bpm} | 80\text{ beats/min}
15 | 15\text{ mL/min}
3.5\text{ kg} | 3.5\text{ kilograms}
½ | 0.5
1½ | \frac{3}{2}
√3/2 | \frac{\sqrt{3}}{2}
2π | 2\pi
x≥-2 | x\ge-2
[-1, 4] | -1≤x≤4
6\times 10⁴ | 60000
π/4 | \frac{\pi}{4}
x³-1 | x^3-1
-1-i | -i-1
\frac{1+i}{\sqrt2} | e^{i\pi/4}
2i | \sqrt{-4}
\frac{2}{1+i} | 1-i
(1+2i)(1-2i) | 5
|5-12i| | 13
0.6+0.8i | \frac{3+4i}{5}
7:05\text{ p.m.} | 7:05 PM
7:05\text{ p.m.} | 7:05\text{pm}
\text{March 3} | March 3
\text{March }3 | \text{March 3rd}
9\text{ a.m.} | 9\text{ AM}
-3<t\le 5 | (-3,5]
x\ge -7 | [-7,\infty)
x<-1\text{ or }x>4 | (-\infty,-1)\cup(4,\infty)
(-\infty,-1)\cup(4,\infty) | x<-1 \text{ or } x>4
2\le x<9 | 9>x\ge2
\{x\mid x\ge 3\} | [3,\infty)
P(X>3)=\frac{1}{8} | \frac18
0.125 | P(X>3)=\frac18
(4,-1) | (a,b)=(4,-1)
(1,2,3) | (x,y,z)=(1,2,3)
f(3) = 12 | 12
35 | \angle BAC=35^\circ
35^\circ | m\angle B=35^\circ
10 | AB=10
\text{Area}=24 | 24
24 | \text{Area} = 24
3\cdot 2^n | \sum_{k=0}^{1}(k+1)2^n
\frac{n(n+1)(2n+1)}{6} | \sum_{k=1}^n k^2
\log_2 16 | 4
\log_5 7 | \frac{\ln 7}{\ln 5}
\log_{10} 7 | \frac{\log_2 7}{\log_2 10}
\sin 30^\circ | \frac12
\frac{\sqrt3}{3} | \tan 30^\circ
\frac{100}{3}^\circ | 33\frac13^\circ
33\frac13 | \frac{100}{3}\text{ degrees}
\bm{12} | 12
7 | \textcolor{blue}{\mathbf{7}}
7 | {\color{red} 7}
x+1 | \textcolor{red}{x+1}
\frac{3}{4} | \boldsymbol{\frac{3}{4}}
4.5\times10^{5} | 450000
450000 | 4.5\cdot10^5
2.5\times 10^{-4} | 0.00025
2.5e-4 | 0.00025
1,2,3,4,5,6,7,8,9,10,11,12,13 | 13,12,11,10,9,8,7,6,5,4,3,2,1
\{1,2,3,4,5,6,7,8,9,10,11,12\} | 1,2,3,4,5,6,7,8,9,10,11,12
\mathbb{R} | (-\infty,\infty)
(0,3) | (0,1]\cup(1,3)
n \equiv 3 \pmod{8} | n\equiv3\pmod 8
\mathbb{Z} | \mathbb Z
\lceil x\rceil | ⌈x⌉
f'(x) | f'(x)
y''+y=0 | y+y''=0
f'(x)=2x | 2x
y'=2y | 2y=y'
A^T | A^{T}
A^T | A^{\top}
\frac{x^3}{3}+C | C+\frac{x^3}{3}
x^2\sin x+C | x^2 \sin(x)+c
\operatorname{arctan}(2) | \arctan 2
e^{-x} | \mathrm{e}^{-x}
5\text{ m/s} | 5\text{ meters per second}
5\text{ ft}^2 | 5\text{ square feet}
5\text{ ft}^2 | 5\text{ sq ft}
64 | 64\text{ cubic inches}
18 | 18\text{ apples}
18 | 18 eggs
6 | 6\text{ boxes of cookies}
\text{ellipse} | Ellipse
\text{no solution} | no solution
\text{Tuesday} | tuesday
\text{odd} | odd
\text{neither} | Neither
12\pi | 12 pi
\sqrt{5} | sqrt(5)
\frac{1}{2}x | x/2
\frac ab | \frac{a}{b}
3\frac12 | 3.5
3\frac12 | \frac72
x=2,y=3 | y=3, x=2
\left\{-2,5\right\} | \{5,-2\}
x\in\{1,2\} | \{1,2\}
120\% | 1.2
y=-\frac{1}{2}x+3 | y=3-\frac{x}{2}
\frac{x^2}{9}-\frac{y^2}{4}=1 | 4x^2-9y^2=36
3 \pm 2 \sqrt{2} | 3+2\sqrt2, 3-2\sqrt2
\frac{3\pm\sqrt5}{2} | \frac{3+\sqrt5}{2},\frac{3-\sqrt5}{2}
\{1\pm\sqrt{5},-2\} | -2, 1+\sqrt5, 1-\sqrt5
"""
# And their neighbours, which are other answers.
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


def pairs(table: str) -> list[tuple[str, str]]:
    return [tuple(line.split(" | ")) for line in table.strip().splitlines()]


@pytest.mark.parametrize(("gold", "candidate"), pairs(SAME))
def test_spellings_of_one_answer_are_right(gold, candidate):
    assert verdict(gold, candidate).reward == 1.0


@pytest.mark.parametrize(("gold", "candidate"), pairs(OTHER))
def test_neighbours_of_a_right_answer_are_wrong(gold, candidate):
    assert verdict(gold, candidate) in (Verdict(0.0, "wrong"), Verdict(0.0, "unevaluated"))
