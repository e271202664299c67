package proxy

import (
	"net/netip"
	"strconv"

	"github.com/egressaudit/egressaudit/policy"
)

// JudgeFlow names a UDP flow that package capture relays, by what its first
// datagrams said, and says whether it may pass; where not, o has the verdict. It may
// be asked again for the same flow, when the name came late.
func (p *Proxy) JudgeFlow(o *policy.Observation) (pass bool) {
	if o.ID == "" {
		o.ID = p.session + "-" + strconv.FormatUint(p.serial.Add(1), 10)
	}
	o.Kind, o.Origin, o.Decision = policy.KindConnection, policy.OriginClient, policy.Allow
	to := netip.AddrPortFrom(o.Address.Addr().Unmap(), o.Port)
	name, err := policy.ParseName(to.Addr().String())
	listed := err == nil && p.meant(o, name)
	if sni, bad := policy.ParseName(o.SNI); bad == nil {
		listed = p.name(o, sni, policy.FromSNI)
		if p.memory.Elsewhere(sni.String(), to.Addr(), o.Begun) {
			note(o, detail{"sni_elsewhere": true})
		}
	}
	o.Asked = to.Addr().String()
	switch {
	case !p.admits(o.Client):
		fail(o, denied(policy.HTTPRequestDenied), detail{"why": "this client may not use the proxy (--clients)"})
	case p.guard.judge(to) == blockPage:
		fail(o, sinkholed(policy.Certain), detail{"addresses": []string{o.Asked}, "block_page": true})
	case p.guard.judge(to) > private:
		fail(o, denied(policy.DestinationProhibited), nil)
	case p.refuseQUIC:
		fail(o, denied(policy.HTTPRequestDenied), detail{"why": "QUIC is refused (--quic refuse): the client is to turn to TCP"})
	case p.enforce && !listed:
		fail(o, denied(policy.HTTPRequestDenied), detail{"why": "in no catalog, and the mode is enforce"})
	default:
		return true
	}
	if o.Outcome == policy.Denied {
		o.Decision, o.WouldDeny = policy.Deny, false
	}
	return false
}
