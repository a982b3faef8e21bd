"""Spellings of one answer, kind by kind."""

import pytest
from tests.verdicts import pairs, verdict

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
y''+y=0 | y+y''=0
f'(x)=2x | 2x
y'=2y | 2y=y'
A^T | A^{T}
A^T | A^{\top}
\frac{x^3}{3}+C | C+\frac{x^3}{3}
x^2\sin x+C | x^2 \sin(x)+c
\operatorname{arctan}(2) | \arctan 2
e^{-x} | \mathrm{e}^{-x}
2ex+1 | 1+2\mathrm{e}x
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


@pytest.mark.parametrize(("gold", "candidate"), pairs(SAME))
def test_spellings_of_one_answer_are_right(gold, candidate):
    assert verdict(gold, candidate).reward == 1.0
