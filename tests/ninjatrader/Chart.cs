// Steps the sample strategy through the states of a chart, one command a line, in the stand-in's world.

using System;
using System.Collections.Generic;
using NinjaTrader.Cbi;
using NinjaTrader.NinjaScript;
using NinjaTrader.NinjaScript.Strategies;
using Watchdog.Internal;

namespace Watchdog.Tests
{
    internal static class Chart
    {
        private static readonly Dictionary<string, SampleGuardedStrategy> Strategies =
            new Dictionary<string, SampleGuardedStrategy>();

        private static void Main()
        {
            for (string line; (line = Console.In.ReadLine()) != null;)
            {
                Dictionary<string, object> command = (Dictionary<string, object>)Json.Parse(line);
                if (Json.Text(command, "do") == "exit") return;
                string name = Json.Text(command, "strategy");
                Do(name, command);
                SampleGuardedStrategy strategy = Strategies[name];
                Dictionary<string, object> done = new Dictionary<string, object>();
                lock (strategy.Did)
                {
                    done["state"] = strategy.State.ToString();
                    done["did"] = strategy.Did.ToArray();
                }
                Dictionary<string, object> answer = new Dictionary<string, object>();
                answer["id"] = command["id"];
                answer["done"] = done;
                answer["awake"] = false;
                Console.Out.WriteLine(Json.Write(answer));
                Console.Out.Flush();
            }
        }

        private static void Do(string name, Dictionary<string, object> command)
        {
            switch (Json.Text(command, "do"))
            {
                case "put on":
                    Strategies[name] = Made(Json.Text(command, "instrument"), command);
                    break;
                case "state":
                    State to = (State)Enum.Parse(typeof(State), Json.Text(command, "to"));
                    Strategies[name].SetState(to);
                    break;
                case "bar":
                    Strategies[name].Bar(Json.Number(command, "close").Value);
                    break;
                case "account":
                    Strategies[name].PositionAccount.MarketPosition =
                        (MarketPosition)Enum.Parse(typeof(MarketPosition), Json.Text(command, "position"));
                    break;
            }
        }

        private static SampleGuardedStrategy Made(string instrument, Dictionary<string, object> command)
        {
            SampleGuardedStrategy strategy = new SampleGuardedStrategy
            {
                Instrument = new Instrument
                {
                    FullName = instrument,
                    MasterInstrument = new MasterInstrument { Name = instrument.Split(' ')[0] }
                },
                Account = new Account { Name = "Sim101" },
                Position = new Position(),
                PositionAccount = new Position(),
                Close = new Series()
            };
            strategy.SetState(State.SetDefaults);
            strategy.Server = Json.Text(command, "server") ?? strategy.Server;
            strategy.ApiKeyFile = Json.Text(command, "key_file") ?? strategy.ApiKeyFile;
            strategy.StreamId = Json.Text(command, "stream") ?? strategy.StreamId;
            strategy.Observe = command.ContainsKey("observe");
            return strategy;
        }
    }
}
