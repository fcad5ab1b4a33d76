"""The calendars that the library can make, in the version that is pinned.

So that a calendar key is refused where it is entered: the web process does not load the library,
which would tell as well. A test holds the two together.
"""

from __future__ import annotations

CALENDAR_NAMES = {
    "CME Globex Crypto",
    "CME Globex Cryptocurrencies",
    "CME Globex Equity",
    "CME Globex Fixed Income",
    "CME Globex Interest Rate Products",
    *"""
24/5 24/7 AIXK ALI ASX B3 BATS BMF BSE BUS BVMF Bond_Markets_JP Bond_Markets_UK Bond_Markets_US
C-GEO CBOE_Equity_Options CBOE_Futures CBOE_Index_Options CBOT_Agriculture CBOT_Bond CBOT_Equity
CBOT_InterestRate CBOT_Rate CFE CGO CL CMEGlobex_ALI CMEGlobex_Aluminum CMEGlobex_BUS
CMEGlobex_BaseMetals CMEGlobex_CGO CMEGlobex_CL CMEGlobex_CarbonOffset CMEGlobex_Copper
CMEGlobex_Crude CMEGlobex_CrudeAndRefined CMEGlobex_Dutch_NatGas CMEGlobex_Energy
CMEGlobex_EnergyAndMetals CMEGlobex_FX CMEGlobex_Feeder_Cattle CMEGlobex_FerrousMetals
CMEGlobex_GC CMEGlobex_GEO CMEGlobex_Gas CMEGlobex_Gold CMEGlobex_Grains CMEGlobex_HG
CMEGlobex_HO CMEGlobex_HRC CMEGlobex_LastDay_NatGas CMEGlobex_Lean_Hog CMEGlobex_Live_Cattle
CMEGlobex_Livestock CMEGlobex_MCL CMEGlobex_Metals CMEGlobex_MicroCrude CMEGlobex_NG
CMEGlobex_NGO CMEGlobex_NN CMEGlobex_NYHarbor CMEGlobex_NatGas CMEGlobex_Oilseeds CMEGlobex_PL
CMEGlobex_Platinum CMEGlobex_Port_Cutout CMEGlobex_PreciousMetals CMEGlobex_QC CMEGlobex_RB
CMEGlobex_SI CMEGlobex_Silver CMEGlobex_TIO CMEGlobex_TTF CMES CME_Agriculture CME_Bond
CME_Currency CME_Equity CME_FX CME_InterestRate CME_Rate CME_TradeDate COMEX_Agriculture
Capital_Markets_JP Capital_Markets_UK Capital_Markets_US DJIA DOW EUREX EUREX_Bond
EUREX_Extended EUREX_PrePost FOREX FX Financial_Markets_JP Financial_Markets_UK
Financial_Markets_US Forex GC GEO HG HKEX HO HRC ICE ICEUS IEPA IEX Investors_Exchange JPX LSE
MCL NASDAQ NG NGO NN NSE NYFE NYMEX_Agriculture NYSE OSE PL QC RB SI SIFMAJP SIFMAUK SIFMAUS
SIFMA_JP SIFMA_UK SIFMA_US SIX SSE TASE TIO TSX TSXV TTF XAMS XASX XBDA XBKK XBOG XBOM XBRA XBRU
XBUD XBUE XCBF XCSE XDUB XDUS XEEE XETR XEUR XFRA XHAM XHEL XHKG XICE XIDX XIST XJPX XJSE XKAR
XKLS XKRX XLIM XLIS XLIT XLJU XLON XLUX XMAD XMEX XMIL XMOS XNSE XNYS XNZE XOSL XPAR XPHS XPRA
XRIS XSAU XSES XSHG XSTO XSTU XSWX XTAE XTAI XTAL XTKS XTSE XWAR XWBO XZAG stock us_futures
""".split(),  # noqa: SIM905 a list of 200 would be two hundred lines
}
