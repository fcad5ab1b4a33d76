// A STAND-IN for the few types of NinjaTrader that the sample strategy names, so that it can be compiled and
// stepped through its states without NinjaTrader. Written from its public documentation; NinjaTrader itself
// does far more, and may do this differently.

using System;
using System.Collections.Generic;

namespace System.ComponentModel.DataAnnotations
{
    [AttributeUsage(AttributeTargets.Property)]
    public sealed class DisplayAttribute : Attribute
    {
        public string Name { get; set; }

        public string Description { get; set; }

        public string GroupName { get; set; }

        public int Order { get; set; }
    }
}

namespace NinjaTrader.Cbi
{
    public enum MarketPosition { Flat, Long, Short }

    public enum LogLevel { Information, Warning, Error, Alert }

    public class MasterInstrument
    {
        public string Name { get; set; }
    }

    public class Instrument
    {
        public string FullName { get; set; }

        public MasterInstrument MasterInstrument { get; set; }
    }

    public class Account
    {
        public string Name { get; set; }
    }

    public class Position
    {
        public MarketPosition MarketPosition { get; set; }
    }
}

namespace NinjaTrader.NinjaScript
{
    using NinjaTrader.Cbi;

    public enum State { SetDefaults, Configure, Active, DataLoaded, Historical, Transition, Realtime, Terminated }

    [AttributeUsage(AttributeTargets.Property)]
    public sealed class NinjaScriptPropertyAttribute : Attribute
    {
    }

    public class Series
    {
        public readonly List<double> Values = new List<double>();

        public double this[int barsAgo]
        {
            get { return Values[Values.Count - 1 - barsAgo]; }
        }
    }

    public abstract class StrategyStandIn
    {
        public readonly List<string> Did = new List<string>();

        public string Name { get; set; }

        public State State { get; private set; }

        public Instrument Instrument { get; set; }

        public Account Account { get; set; }

        public Position Position { get; set; }

        public Position PositionAccount { get; set; }

        public Series Close { get; set; }

        public int CurrentBar { get; set; }

        public int BarsRequiredToTrade { get; set; }

        public void SetState(State state)
        {
            lock (Did)
            {
                State = state;
                OnStateChange();
            }
        }

        public void Bar(double close)
        {
            lock (Did)
            {
                Close.Values.Add(close);
                CurrentBar = Close.Values.Count;
                OnBarUpdate();
            }
        }

        public virtual void CloseStrategy(string signalName)
        {
            Did.Add("close " + signalName);
            Position.MarketPosition = MarketPosition.Flat;
            SetState(State.Terminated);
        }

        protected abstract void OnStateChange();

        protected abstract void OnBarUpdate();

        protected void Print(object text)
        {
            lock (Did) Did.Add("print " + text);
        }

        protected void Log(string message, LogLevel level)
        {
            lock (Did) Did.Add("log " + level + " " + message);
        }

        protected void EnterLong(int quantity, string signalName)
        {
            Did.Add("buy " + quantity);
            Position.MarketPosition = MarketPosition.Long;
        }

        protected void TriggerCustomEvent(Action<object> customEvent, object state)
        {
            lock (Did) customEvent(state);
        }
    }
}

namespace NinjaTrader.NinjaScript.Strategies
{
    public abstract class Strategy : StrategyStandIn
    {
    }
}
