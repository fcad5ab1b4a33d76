// A console robot around CanonicalMarketGuard.cs, driven over stdin and stdout, one JSON object a line.
//
// In: {"id": 1, "do": "acquire", ...}. Out: {"id": 1, "done": {...}} or {"id": 1, "refused": {...}}, and at
// any time {"told": [...]} and {"lost": {...}}. Staged, the guard's clock, waiting and answers are the
// other side's: {"wait": seconds} and {"post": path, ...} are answered with {"reply": {...}}, and
// commands may come in between.

using System;
using System.Collections.Generic;
using System.Threading;
using Watchdog.Internal;

namespace Watchdog.Tests
{
    internal static class Driver
    {
        private static readonly object Writing = new object();
        private static readonly Dictionary<string, CanonicalMarketGuard> Guards =
            new Dictionary<string, CanonicalMarketGuard>();
        private static Staged stage = new Staged();
        private static HeldMarket held;
        private static Renewals renewals;

        private static void Main()
        {
            for (Dictionary<string, object> command; (command = Read()) != null;)
                if (!Obey(command)) return;
        }

        internal static void Say(params object[] namesAndValues)
        {
            string line = Json.Write(Fields(namesAndValues));
            lock (Writing)
            {
                Console.Out.WriteLine(line);
                Console.Out.Flush();
            }
        }

        /// <summary>Ask the other side, and do what it wants done meanwhile.</summary>
        internal static Dictionary<string, object> Ask(params object[] namesAndValues)
        {
            Say(namesAndValues);
            while (true)
            {
                Dictionary<string, object> line = Read();
                if (line == null) Environment.Exit(3);
                if (line.ContainsKey("now")) stage.Time = Json.Number(line, "now").Value;
                if (line.ContainsKey("reply")) return (Dictionary<string, object>)line["reply"];
                Obey(line);
            }
        }

        internal static Dictionary<string, object> Fields(params object[] namesAndValues)
        {
            Dictionary<string, object> fields = new Dictionary<string, object>();
            for (int index = 0; index < namesAndValues.Length; index += 2)
                fields[(string)namesAndValues[index]] = namesAndValues[index + 1];
            return fields;
        }

        private static Dictionary<string, object> Read()
        {
            string line = Console.In.ReadLine();
            return line == null ? null : (Dictionary<string, object>)Json.Parse(line);
        }

        private static bool Obey(Dictionary<string, object> command)
        {
            object id = command["id"];
            if (command.ContainsKey("now")) stage.Time = Json.Number(command, "now").Value;
            string what = (string)command["do"];
            try
            {
                if (what == "exit") return false;
                object done = what.StartsWith("stage ") ? Stage(what, command) : Do(what, command);
                Say("id", id, "done", done, "awake", renewals != null && renewals.Wake.WaitOne(0));
            }
            catch (GuardError refusal)
            {
                Say("id", id, "refused", Told(refusal), "awake", renewals != null && renewals.Wake.WaitOne(0));
            }
            return true;
        }

        private static Dictionary<string, object> Told(GuardError refusal)
        {
            Dictionary<string, object> told = Fields(
                "error", refusal.GetType().Name, "code", refusal.Code, "exit", refusal.ExitStatus, "message",
                refusal.Message);
            CanonicalMarketAlreadyActive active = refusal as CanonicalMarketAlreadyActive;
            if (active == null) return told;
            told["retry_after"] = active.RetryAfter;
            told["active"] = Fields(
                "run_id", active.Active.RunId, "host", active.Active.Host, "execution_instrument",
                active.Active.ExecutionInstrument, "since", active.Active.Since, "fencing_token",
                active.Active.FencingToken);
            return told;
        }

        private static object Do(string what, Dictionary<string, object> command)
        {
            string name = Json.Text(command, "guard") ?? "";
            switch (what)
            {
                case "resolve":
                    Product found = Symbols.Find(Json.Text(command, "symbol"));
                    return found == null ? null : new[] { found.Execution, found.Canonical };
                case "parse":
                    return Json.Write(Json.Parse(Json.Text(command, "text")));
                case "readable":
                    try
                    {
                        Json.Parse(Json.Text(command, "text"));
                    }
                    catch (FormatException)
                    {
                        return false;
                    }
                    return true;
                case "object":
                    string hex = Json.Text(command, "hex");
                    byte[] raw = new byte[hex.Length / 2];
                    for (int at = 0; at < raw.Length; at++) raw[at] = Convert.ToByte(hex.Substring(2 * at, 2), 16);
                    return Json.Object(raw);
                case "acquire":
                    Guards[name] = Made(name, command);
                    Guards[name].Acquire();
                    return State(Guards[name]);
                case "check":
                    try
                    {
                        Guards[name].Check();
                    }
                    catch (GuardError refusal)
                    {
                        return refusal.GetType().Name + ": " + refusal.Message;
                    }
                    return "held";
                case "release":
                    Guards[name].Release(Json.Text(command, "reason") ?? "clean");
                    return null;
                case "state":
                    return State(Guards[name]);
                case "stream":
                    SetStream(Guards[name], command);
                    return null;
                case "tell endlessly":
                    Dictionary<string, object> endless = new Dictionary<string, object>();
                    endless["itself"] = endless;
                    Guards[name].Tell("ORDER_SUBMITTED", "ES1", endless);
                    Guards[name].Tell("ORDER_SUBMITTED", "ES1", Fields("numbers", Numbers()));
                    Guards[name].Tell("ORDER_SUBMITTED", "ES1", Fields("odd", new Dictionary<int, int> { { 1, 2 } }));
                    return null;
                case "tell":
                    for (long times = Json.Integer(command, "times") ?? 1; times > 0; times--)
                        Guards[name].Tell(
                            Json.Text(command, "event"), Json.Text(command, "stream"),
                            command.ContainsKey("data") ? (Dictionary<string, object>)command["data"] : null);
                    return null;
            }
            throw new ArgumentException(what);
        }

        private static IEnumerable<int> Numbers()
        {
            for (int number = 0; ; number++) yield return number;
        }

        private static CanonicalMarketGuard Made(string name, Dictionary<string, object> command)
        {
            List<string> streams = new List<string>();
            if (command.ContainsKey("streams"))
                foreach (object stream in (List<object>)command["streams"]) streams.Add((string)stream);
            double? hurry = Json.Number(command, "hurry");
            Surroundings surroundings = hurry == null ? Surroundings.Real : new Hurried(hurry.Value);
            return new CanonicalMarketGuard(new GuardOptions
            {
                Market = Json.Text(command, "market"),
                Server = Json.Text(command, "server"),
                ApiKey = Json.Text(command, "key"),
                ApiKeyFile = Json.Text(command, "key_file"),
                Account = Json.Text(command, "account"),
                ProjectRoot = Json.Text(command, "root"),
                HostOnly = command.ContainsKey("host_only"),
                KillSwitchFile = Json.Text(command, "kill_switch_file"),
                Observe = command.ContainsKey("observe"),
                RunId = Json.Text(command, "run_id"),
                StreamIds = streams,
                Report = delegate(string eventName, string sentence)
                {
                    Say("told", new object[] { name, eventName, sentence });
                },
                OnLost = delegate(MarketLost lost)
                {
                    Say("lost", Fields(
                        "guard", name, "at", Surroundings.Real.Now(), "sentence", lost.Sentence, "left",
                        lost.SecondsUntilKill, "kill_time", lost.IsKillTime));
                    if (command.ContainsKey("fails_when_lost")) throw new InvalidOperationException("as it should");
                }
            }, surroundings);
        }

        private static void SetStream(CanonicalMarketGuard guard, Dictionary<string, object> command)
        {
            string streamId = Json.Text(command, "stream");
            if (command.ContainsKey("remove")) guard.Identity.RemoveStream(streamId);
            else if (command.ContainsKey("execution"))
                guard.Identity.SetStream(streamId, Json.Text(command, "canonical"), Json.Text(command, "execution"));
            else guard.Identity.SetStream(streamId);
        }

        private static object State(CanonicalMarketGuard guard)
        {
            IdentityResult result = guard.Identity.Evaluate();
            return Fields(
                "held", guard.Held, "run_id", guard.RunId, "canonical_instrument", guard.CanonicalInstrument,
                "fencing_token", guard.FencingToken, "takeover", guard.Takeover, "seconds_left", guard.SecondsLeft,
                "events_dropped", guard.EventsDropped, "pass", result.Passed, "violations", result.Violations);
        }

        private static object Stage(string what, Dictionary<string, object> command)
        {
            switch (what)
            {
                case "stage set":
                    stage = new Staged();
                    held = null;
                    renewals = null;
                    return null;
                case "stage take":
                    Wanted wanted = new Wanted
                    {
                        Symbol = Json.Text(command, "symbol"),
                        RunId = Json.Text(command, "run_id"),
                        Root = Json.Text(command, "root"),
                        Server = Json.Text(command, "server"),
                        ApiKey = Json.Text(command, "key"),
                        Account = Json.Text(command, "account")
                    };
                    Product product = Taking.Resolved(wanted, stage);
                    held = Taking.TakeMarket(wanted, product, stage, delegate(string eventName, string sentence)
                    {
                        Say("told", new object[] { "", eventName, sentence });
                    });
                    renewals = new Renewals(held, stage);
                    return Fields(
                        "fencing_token", held.Lease == null ? null : (object)held.Lease.Grant.FencingToken, "takeover",
                        held.Takeover, "record", held.HostLock.RecordPath);
                case "stage start":
                    renewals.OnLost = delegate(string sentence) { Say("lost", Fields("sentence", sentence)); };
                    renewals.Start();
                    return null;
                case "stage check":
                    renewals.Check();
                    return null;
                case "stage times":
                    return Fields("stop_at", renewals.StopAt, "kill_at", renewals.KillAt);
                case "stage end":
                    renewals.End();
                    return null;
                case "stage release":
                    held.Release(Json.Text(command, "reason"), delegate { });
                    return null;
            }
            throw new ArgumentException(what);
        }
    }

    /// <summary>Its clock runs so many times faster; its network does not.</summary>
    internal sealed class Hurried : Surroundings
    {
        private readonly double hurry;

        internal Hurried(double hurry)
        {
            this.hurry = hurry;
        }

        internal override double Now()
        {
            return base.Now() * hurry;
        }

        internal override void Wait(ManualResetEvent wake, double seconds)
        {
            base.Wait(wake, seconds / hurry);
        }
    }

    /// <summary>A process whose time, waiting and network are the other side's.</summary>
    internal sealed class Staged : Surroundings
    {
        internal double Time;

        internal override double Now()
        {
            return Time;
        }

        internal override void Wait(ManualResetEvent wake, double seconds)
        {
            if (!wake.WaitOne(0)) Driver.Ask("wait", seconds);
        }

        internal override Thread Start(string name, ThreadStart body)
        {
            body();
            return null;
        }

        internal override Authority AuthorityAt(string server, string apiKey)
        {
            return new StagedAuthority(server, apiKey);
        }
    }

    /// <summary>Asks the script first; where it has an answer, the request is really made.</summary>
    internal sealed class StagedAuthority : Authority
    {
        private readonly string apiKey;

        internal StagedAuthority(string server, string apiKey) : base(server, apiKey)
        {
            this.apiKey = apiKey;
        }

        internal override Answer Post(string path, string body, double timeout)
        {
            Dictionary<string, object> reply = Driver.Ask("post", path, "body", body, "timeout", timeout);
            string server = Json.Text(reply, "go");
            if (server == null) throw new Unanswered("the script has no answer in time", true);
            return new Authority(server, apiKey).Post(path, body, RequestTimeout);
        }
    }
}
