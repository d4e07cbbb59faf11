package modulet.web;

import com.alipay.sofa.ark.api.ArkClient;
import com.alipay.sofa.ark.spi.registry.ServiceProvider;
import com.alipay.sofa.ark.spi.registry.ServiceProviderType;
import com.alipay.sofa.ark.spi.service.ArkInject;
import com.alipay.sofa.ark.spi.service.registry.RegistryService;
import com.alipay.sofa.ark.spi.web.AbstractEmbeddedServerService;
import com.alipay.sofa.ark.spi.web.EmbeddedServerService;
import org.apache.catalina.startup.Tomcat;

/**
 * Where SOFAArk keeps the Tomcat that the base and its modules share, one for each port: the first that wants a web
 * server puts it here, the others add their contexts to it. Without it each module would open a port of its own.
 */
final class SharedTomcat extends AbstractEmbeddedServerService<Tomcat> implements ServiceProvider {
    /** SOFAArk's web-ark-plugin would publish a service like this one, but of a shape that the SOFAArk here does not know. */
    static final String REPLACES = "web-ark-plugin";

    @ArkInject
    private RegistryService services;

    /** To be called when SOFAArk has started and before the base's web server does. */
    static void publish() {
        SharedTomcat shared = new SharedTomcat();
        ArkClient.getInjectionService().inject(shared);
        shared.services.publishService(EmbeddedServerService.class, shared, shared);
    }

    @Override
    public ServiceProviderType getServiceProviderType() {
        return ServiceProviderType.ARK_MASTER_BIZ;
    }

    @Override
    public String getServiceProviderDesc() {
        return "the base";
    }

    @Override
    public int getPriority() {
        return DEFAULT_PRECEDENCE;
    }
}
