// A strategy that trades only while it holds its market. Not a trading idea: it buys one contract when a
// close is higher than the one before, so that there is something to guard.
//
// The five lines that matter are marked (1) to (5). Everything else is what a strategy has anyway.
// CanonicalMarketGuard.cs must lie in the AddOns folder.

#region Using declarations
using System;
using System.ComponentModel.DataAnnotations;
using NinjaTrader.Cbi;
using NinjaTrader.NinjaScript;
using Watchdog;
#endregion

namespace NinjaTrader.NinjaScript.Strategies
{
    public class SampleGuardedStrategy : Strategy
    {
        private CanonicalMarketGuard guard;
        private bool mustReconcile;

        [NinjaScriptProperty]
        [Display(Name = "Server", Description = "Like http://192.168.1.10:8000", Order = 1, GroupName = "Watchdog")]
        public string Server { get; set; }

        // The file, not the key: parameters are saved in workspaces and templates.
        [NinjaScriptProperty]
        [Display(Name = "API key file", Order = 2, GroupName = "Watchdog")]
        public string ApiKeyFile { get; set; }

        // The canonical instrument and a number: ES1, also where the chart is MES.
        [NinjaScriptProperty]
        [Display(Name = "Stream id", Order = 3, GroupName = "Watchdog")]
        public string StreamId { get; set; }

        // To begin with: say what would have happened, and stop nothing.
        [NinjaScriptProperty]
        [Display(Name = "Observe only", Order = 4, GroupName = "Watchdog")]
        public bool Observe { get; set; }

        protected override void OnStateChange()
        {
            if (State == State.SetDefaults)
            {
                Name = "SampleGuardedStrategy";
                Server = "http://127.0.0.1:8000";
                ApiKeyFile = @"C:\ProgramData\Watchdog\robot.key";
                StreamId = "ES1";
                BarsRequiredToTrade = 2;
            }
            else if (State == State.Realtime)
            {
                // Not earlier: while NinjaTrader calculates history, and in the Strategy Analyzer, no order
                // reaches a broker, and many copies of one strategy may be at it.
                TakeMarket();
            }
            else if (State == State.Terminated && guard != null)
            {
                // Instances that only show properties come here as well; they never had a guard. A position
                // that stays open is the next executor's business, so it must be told to look.
                bool isFlat = Position.MarketPosition == MarketPosition.Flat;
                guard.Release(isFlat ? "clean" : "crashed"); // (5)
            }
        }

        protected override void OnBarUpdate()
        {
            if (State != State.Realtime || CurrentBar < BarsRequiredToTrade) return;
            if (guard == null)
            {
                // Refused at start, and said so.
                SetState(State.Terminated);
                return;
            }
            if (mustReconcile && !IsReconciled()) return;
            if (Position.MarketPosition == MarketPosition.Flat && Close[0] > Close[1]) Buy();
        }

        private void TakeMarket()
        {
            CanonicalMarketGuard taking = new CanonicalMarketGuard(new GuardOptions // (1)
            {
                Market = Instrument.FullName,
                Account = Account.Name,
                Server = Server,
                ApiKeyFile = ApiKeyFile,
                Observe = Observe,
                Report = delegate(string eventName, string sentence) { Print(eventName + ": " + sentence); },
                // Another thread calls this; NinjaTrader brings it to the strategy's own.
                OnLost = delegate(MarketLost lost) { TriggerCustomEvent(delegate { GetOut(lost); }, null); }
            });
            // What this robot really does, not what it should do: the watchdog compares.
            taking.Identity.SetStream(StreamId, null, Instrument.MasterInstrument.Name); // (2)
            try
            {
                taking.Acquire(); // (3)
            }
            catch (GuardError refusal)
            {
                Log(Name + " does not trade. " + refusal.Code + ": " + refusal.Message, LogLevel.Alert);
                return;
            }
            guard = taking;
            mustReconcile = guard.Takeover;
        }

        /// <summary>After a crash somebody looks at the account before this strategy trades.</summary>
        private bool IsReconciled()
        {
            if (PositionAccount.MarketPosition != MarketPosition.Flat)
            {
                Print("The last holder of this market did not leave cleanly, and the account is not flat: "
                    + "close its position, or make it this strategy's own, before it trades.");
                return false;
            }
            mustReconcile = false;
            return true;
        }

        private void Buy()
        {
            try
            {
                guard.Check(); // (4) right before every order, with nothing in between
            }
            catch (GuardError refusal)
            {
                // A lost lease, which OnLost is told of as well, or the kill switch: no order.
                Print(refusal.Code + ": " + refusal.Message);
                return;
            }
            EnterLong(1, "Sample");
            guard.Tell("ORDER_SUBMITTED", StreamId, null);
        }

        private void GetOut(MarketLost lost)
        {
            if (lost.SecondsUntilKill > 0)
            {
                // This is what the time between stop and kill is for: cancel, flatten, disable.
                CloseStrategy("Watchdog");
                return;
            }
            // Another robot may have the market by now, so not even to flatten.
            Log(Name + ": " + lost.Sentence, LogLevel.Alert);
            if (State == State.Realtime) SetState(State.Terminated);
        }
    }
}
