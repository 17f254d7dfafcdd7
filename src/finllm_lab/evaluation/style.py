"""The report's style sheet: light and dark by the reader's own setting, wide tables in boxes that scroll."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1d2330;--soft:#5d6677;--rule:#d9dee7;--card:#f6f8fb;
--good:#0b7a4b;--goodbg:#dff3e8;--bad:#b3261e;--badbg:#fbe3e1;--mid:#6a6f7a;--midbg:#eef0f4;
--a:#2f6fd0;--b:#c2701c;--c:#7a4fc4;--warnbg:#fff3d6}
@media (prefers-color-scheme:dark){:root{--bg:#12151c;--ink:#e6e9f0;--soft:#9aa4b5;--rule:#2f3644;
--card:#1a1f29;--good:#5fd39c;--goodbg:#143527;--bad:#ff8f85;--badbg:#43201d;--mid:#a3abb9;
--midbg:#262c38;--a:#79aaff;--b:#f0a658;--c:#b99aff;--warnbg:#3d3216}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1220px;margin:0 auto;padding:20px 18px 60px}h1{font-size:25px;margin:0 0 4px}
h2{font-size:20px;margin:38px 0 8px;padding-top:12px;border-top:1px solid var(--rule)}
h3{font-size:16px;margin:24px 0 6px}p,ul{margin:6px 0 10px}small,.soft{color:var(--soft)}
nav a{margin-right:14px}a{color:var(--a)}code{font-size:.92em;overflow-wrap:anywhere}
.alarm,.waived,.quiet{border-radius:8px;padding:10px 14px;margin:12px 0}
.alarm{background:var(--badbg);border:2px solid var(--bad)}.waived{background:var(--warnbg)}
.quiet{background:var(--goodbg)}.alarm strong{color:var(--bad)}
.wide{overflow-x:auto;max-width:100%;margin:6px 0 12px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:5px 9px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{font-weight:600;background:var(--card)}th:first-child,td:first-child{text-align:left}
td small{display:block;font-size:11.5px;line-height:1.3}
td b{font-weight:650}.better{background:var(--goodbg)}.better b{color:var(--good)}
.worse{background:var(--badbg)}.worse b{color:var(--bad)}.inconclusive{background:var(--midbg)}
.inconclusive b{color:var(--mid)}.hint{background:none;outline:1px dashed var(--rule);outline-offset:-3px}
.off b{color:var(--bad)}
.first{display:flex;flex-wrap:wrap;gap:8px 26px;align-items:flex-start}.first>*{min-width:0}
.plots{display:flex;flex-wrap:wrap;gap:14px}figure{margin:0;max-width:100%;overflow-x:auto}
figcaption{font-size:13px;color:var(--soft)}svg{display:block}
svg text{font-size:11px;fill:var(--soft)}svg .name{fill:var(--ink);font-size:12px;font-weight:600}
.grid{stroke:var(--rule)}.zero{stroke:var(--soft);stroke-width:1.3}.diagonal{stroke:var(--soft);
stroke-dasharray:4 3}.span{stroke:currentColor;stroke-width:1.6}.dot{fill:currentColor}
.ring{fill:var(--bg);stroke:currentColor;stroke-width:1.8}.line{fill:none;stroke:currentColor;
stroke-width:1.8}.band{fill:currentColor;opacity:.16;stroke:none}.bar{fill:var(--a);opacity:.75}
.s-a{color:var(--a)}.s-b{color:var(--b)}.s-c{color:var(--c)}.s-mid{color:var(--mid)}
.s-bad{color:var(--bad)}.s-good{color:var(--good)}.key span{margin-right:16px}
@media print{.wide,figure{overflow:visible}}
"""
